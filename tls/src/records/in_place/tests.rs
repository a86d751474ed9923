//! Musts of the record layer, with records made by hand.
