//! What other threads ask of a shard.

use fleetwire_codec::{PropertiesBuf, ReasonCode, SubscriptionOptions, TopicFilterBuf};

use crate::core::Core;
use crate::outbox::Outbox;
use crate::publish::lend_properties;
use crate::{AckTicket, ConnectForm, DropReason, Dropped, Event, LinkId, OwnedPublish, Plan, Rejected};

#[derive(Debug)]
pub(crate) enum Command {
    Open {
        id: LinkId,
        plan: Plan,
        token: u64,
        form: Option<Box<ConnectForm>>,
    },
    Publish {
        link: LinkId,
        publish: OwnedPublish,
    },
    Subscribe {
        link: LinkId,
        filters: Vec<(TopicFilterBuf, SubscriptionOptions)>,
        properties: Option<PropertiesBuf>,
    },
    Unsubscribe {
        link: LinkId,
        filters: Vec<TopicFilterBuf>,
    },
    Ack {
        ticket: AckTicket,
        reason: ReasonCode,
    },
    Close {
        link: LinkId,
    },
    Abort {
        link: LinkId,
    },
    SetReading {
        link: LinkId,
        reading: bool,
    },
    SetToken {
        link: LinkId,
        token: u64,
    },
}

impl Command {
    /// Carries the command out. What could not be done becomes an event of its link, also of one that is gone.
    pub(crate) fn apply(self, core: &mut Core) -> Option<(LinkId, Event<'static>)> {
        let now = core.now;
        let mut out = Outbox::new(core);
        match self {
            Self::Open {
                id,
                plan,
                token,
                form,
            } => {
                out.open_reserved(id, &plan, token, form);
                None
            }
            Self::Publish { link, publish } => {
                let borrowed = publish.as_publish();
                let error = out.publish(link, borrowed).err()?;
                let why = DropReason::NotAccepted(error);
                Some((
                    link,
                    Event::Dropped(Dropped {
                        token: publish.token,
                        intended: borrowed.intended.unwrap_or(now),
                        why,
                    }),
                ))
            }
            Self::Subscribe {
                link,
                filters,
                properties,
            } => {
                let filters: Vec<_> = filters
                    .iter()
                    .map(|(filter, options)| (filter.as_topic_filter(), *options))
                    .collect();
                let properties = lend_properties(properties.as_ref());
                let error = out.subscribe_with(link, &filters, properties).err()?;
                Some((
                    link,
                    Event::Rejected(Rejected {
                        verb: "subscribe",
                        error,
                    }),
                ))
            }
            Self::Unsubscribe { link, filters } => {
                let filters: Vec<_> = filters.iter().map(TopicFilterBuf::as_topic_filter).collect();
                let error = out.unsubscribe(link, &filters).err()?;
                Some((
                    link,
                    Event::Rejected(Rejected {
                        verb: "unsubscribe",
                        error,
                    }),
                ))
            }
            Self::Ack { ticket, reason } => {
                let error = out.ack_with(ticket, reason).err()?;
                Some((ticket.link, Event::Rejected(Rejected { verb: "ack", error })))
            }
            Self::Close { link } => {
                out.close(link);
                None
            }
            Self::Abort { link } => {
                out.abort(link);
                None
            }
            Self::SetReading { link, reading } => {
                if reading {
                    out.resume_reading(link);
                } else {
                    out.pause_reading(link);
                }
                None
            }
            Self::SetToken { link, token } => {
                out.set_token(link, token);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_small() {
        // `Limits::commands_max` places of that size are there from the start.
        assert!(size_of::<Command>() <= 96, "{}", size_of::<Command>());
    }
}
