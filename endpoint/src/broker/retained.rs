use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use fleetwire_codec::{TopicFilter, TopicName, TopicNameBuf};

use crate::broker::limits::BrokerLimits;
use crate::broker::message::Message;

/// The retained messages, one for each topic, v5 section 3.3.1.3.
#[derive(Debug, Default)]
pub(crate) struct Retained {
    messages: BTreeMap<TopicNameBuf, Arc<Message>>,
    bytes: usize,
}

impl Retained {
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Keeps a message in place of the one of its topic. Returns `false` where the bounds do not allow it; the old one is
    /// gone then too, as it is no longer true.
    pub(crate) fn set(&mut self, message: Arc<Message>, limits: &BrokerLimits) -> bool {
        self.clear(message.topic());
        let cost = message.cost();
        if self.messages.len() >= limits.retained_messages_max
            || self.bytes + cost > limits.retained_bytes_max
        {
            return false;
        }
        self.bytes += cost;
        self.messages.insert(message.topic().into(), message);
        true
    }

    /// Forgets the message of a topic.
    pub(crate) fn clear(&mut self, topic: TopicName<'_>) {
        if let Some(message) = self.messages.remove(topic.as_str()) {
            self.bytes -= message.cost();
        }
    }

    /// The messages whose topics the filter matches, in the order of their topics.
    ///
    /// Without a wildcard this is one look-up; with one it goes through the topics that begin as the filter does.
    pub(crate) fn matching<'a>(&'a self, filter: TopicFilter<'a>) -> impl Iterator<Item = &'a Arc<Message>> {
        let literal = filter.as_str().split(['+', '#']).next().unwrap_or_default();
        // `a/#` matches `a` too.
        let begin = if filter.ends_with("/#") {
            literal.trim_end_matches('/')
        } else {
            literal
        };
        let begin = if filter.has_wildcard() {
            begin
        } else {
            filter.as_str()
        };
        self.messages
            .range::<str, _>((Bound::Included(begin), Bound::Unbounded))
            .take_while(move |(topic, _)| topic.starts_with(begin))
            .filter(move |(topic, _)| filter.matches(topic.as_topic_name()))
            .map(|(_, message)| message)
    }
}
