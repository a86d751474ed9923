//! What went wrong, grouped by cause: one line each, however many devices it hit.

use std::collections::BTreeMap;
use std::time::Instant;

/// One cause, and whom it hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) slug: &'static str,
    /// Devices, each counted once.
    pub(crate) devices: u64,
    /// Times, repetitions included.
    pub(crate) times: u64,
    /// The index of the device that it hit first.
    pub(crate) first_index: u64,
    /// When that was.
    pub(crate) first_at: Instant,
    /// How far that attempt had come.
    pub(crate) stage: &'static str,
    /// The evidence of that first time.
    pub(crate) text: String,
    /// The code of the MQTT packet that said so, if there was one.
    pub(crate) reason: Option<u8>,
}

/// One occurrence of a cause.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Occurrence<'a> {
    pub(crate) slug: &'static str,
    pub(crate) index: u64,
    pub(crate) at: Instant,
    pub(crate) stage: &'static str,
    pub(crate) text: &'a str,
    pub(crate) reason: Option<u8>,
}

/// All causes of a thread or a run. Their number is bounded by the number of slugs.
#[derive(Clone, Debug, Default)]
pub(crate) struct FailureLog {
    groups: Vec<Group>,
}

/// Which causes a device has met: one bit for each group of its thread's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Met(u64);

impl FailureLog {
    /// Counts an occurrence, and the device unless it has met this cause before.
    pub(crate) fn record(&mut self, occurrence: Occurrence<'_>, met: &mut Met) {
        let place = match self.groups.iter().position(|group| group.slug == occurrence.slug) {
            Some(place) => place,
            None => {
                self.groups.push(Group::new(occurrence));
                self.groups.len() - 1
            }
        };
        // There are fewer than 64 slugs; were there more, the last ones would share a bit.
        let bit = 1 << place.min(63);
        if let Some(group) = self.groups.get_mut(place) {
            group.times += 1;
            group.devices += u64::from(met.0 & bit == 0);
        }
        met.0 |= bit;
    }

    /// Adds another thread's; no device is on both.
    pub(crate) fn add(&mut self, other: Self) {
        for group in other.groups {
            match self.groups.iter_mut().find(|mine| mine.slug == group.slug) {
                None => self.groups.push(group),
                Some(mine) => {
                    let (devices, times) = (mine.devices + group.devices, mine.times + group.times);
                    if group.first_at < mine.first_at {
                        *mine = group;
                    }
                    (mine.devices, mine.times) = (devices, times);
                }
            }
        }
    }

    /// The causes, that which hit most devices first.
    pub(crate) fn into_groups(mut self) -> Vec<Group> {
        self.groups
            .sort_by(|a, b| b.devices.cmp(&a.devices).then(a.slug.cmp(b.slug)));
        self.groups
    }
}

impl Group {
    fn new(occurrence: Occurrence<'_>) -> Self {
        let Occurrence {
            slug,
            index,
            at,
            stage,
            text,
            reason,
        } = occurrence;
        Self {
            slug,
            devices: 0,
            times: 0,
            first_index: index,
            first_at: at,
            stage,
            text: text.to_owned(),
            reason,
        }
    }
}

/// Devices by cause, as the JSON has it.
pub(crate) fn devices_by_slug(groups: &[Group]) -> BTreeMap<&'static str, u64> {
    groups.iter().map(|group| (group.slug, group.devices)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn occurrence(slug: &'static str, index: u64, at: Instant) -> Occurrence<'static> {
        Occurrence {
            slug,
            index,
            at,
            stage: "tcp",
            text: "evidence",
            reason: None,
        }
    }

    #[test]
    fn a_device_counts_once_for_each_cause_however_often_it_tries() {
        let now = Instant::now();
        let mut log = FailureLog::default();
        let (mut first, mut second) = (Met::default(), Met::default());
        for (slug, index, met) in [("a", 7, &mut first), ("b", 9, &mut second)]
            .into_iter()
            .collect::<Vec<_>>()
        {
            log.record(occurrence(slug, index, now), met);
            log.record(occurrence(slug, index, now), met);
        }
        log.record(occurrence("b", 7, now), &mut first);
        log.record(occurrence("b", 7, now), &mut first);
        let groups = log.into_groups();
        assert_eq!(devices_by_slug(&groups), BTreeMap::from([("a", 1), ("b", 2)]));
        assert_eq!(
            (groups[0].slug, groups[0].times, groups[0].first_index),
            ("b", 4, 9)
        );
    }

    #[test]
    fn threads_add_up_and_the_earliest_stays_first() {
        let now = Instant::now();
        let mut early = FailureLog::default();
        early.record(occurrence("a", 2, now), &mut Met::default());
        let mut late = FailureLog::default();
        late.record(
            occurrence("a", 1, now + Duration::from_secs(1)),
            &mut Met::default(),
        );
        late.record(occurrence("c", 1, now), &mut Met::default());
        late.add(early);
        let groups = late.into_groups();
        assert_eq!(
            (groups[0].slug, groups[0].devices, groups[0].first_index),
            ("a", 2, 2)
        );
        assert_eq!(groups.len(), 2);
    }
}
