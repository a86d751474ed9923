//! Who subscribed to what: a tree with one node for each level of each filter.

use std::collections::{BTreeMap, HashMap};

use fleetwire_codec::{QoS, TopicFilter, TopicName};

use crate::broker::clients::ClientIndex;

/// What a subscription was granted, v5 section 3.8.3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) qos: QoS,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
}

/// Subscriptions by topic filter.
///
/// Finding the subscribers of a topic visits the nodes that match it level by level: for each level the node of that
/// name and the one of `+`. Its cost depends on the number of levels and of matching filters, not on the number of
/// subscriptions.
///
/// Nodes are named by their index, and only the tree itself makes indexes: each points to a node of `nodes`, which never
/// gets shorter.
#[derive(Debug)]
pub(crate) struct TopicTree {
    nodes: Vec<Node>,
    /// Nodes that hold nothing any more, to be used again.
    free: Vec<usize>,
    nodes_max: usize,
    /// Nodes still to be visited by a search, with the offset of the level of the topic that comes next.
    open: Vec<(usize, usize)>,
}

#[derive(Debug, Default)]
struct Node {
    children: HashMap<Box<str>, usize>,
    plus: Option<usize>,
    /// Filters that end here.
    here: BTreeMap<ClientIndex, Granted>,
    /// Filters that go on with `#` and so end here too.
    below: BTreeMap<ClientIndex, Granted>,
}

/// The tree has as many nodes as it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TreeFull;

impl TopicTree {
    /// An empty tree, which will never hold more than `nodes_max` levels.
    pub(crate) fn new(nodes_max: usize) -> Self {
        Self {
            nodes: vec![Node::default()],
            free: Vec::new(),
            nodes_max,
            open: Vec::new(),
        }
    }

    /// Adds a subscription and returns the one of the same client and filter that it replaces.
    pub(crate) fn insert(
        &mut self,
        filter: TopicFilter<'_>,
        client: ClientIndex,
        granted: Granted,
    ) -> Result<Option<Granted>, TreeFull> {
        let (path, below) = split(filter);
        let mut at = ROOT;
        for level in path {
            match self.child(at, level) {
                Some(child) => at = child,
                None => match self.grow(at, level) {
                    Ok(child) => at = child,
                    Err(full) => {
                        self.prune(filter);
                        return Err(full);
                    }
                },
            }
        }
        let node = &mut self.nodes[at];
        let subscribers = if below { &mut node.below } else { &mut node.here };
        Ok(subscribers.insert(client, granted))
    }

    /// Takes a subscription out and returns whether it was there.
    pub(crate) fn remove(&mut self, filter: TopicFilter<'_>, client: ClientIndex) -> bool {
        let (mut path, below) = split(filter);
        let Some(at) = path.try_fold(ROOT, |at, level| self.child(at, level)) else {
            return false;
        };
        let node = &mut self.nodes[at];
        let subscribers = if below { &mut node.below } else { &mut node.here };
        let removed = subscribers.remove(&client).is_some();
        self.prune(filter);
        removed
    }

    /// Calls `found` for each subscription that matches the topic; a client with several matching filters comes several
    /// times.
    pub(crate) fn search(&mut self, topic: TopicName<'_>, mut found: impl FnMut(ClientIndex, Granted)) {
        let topic = topic.as_str();
        let mut report = |subscribers: &BTreeMap<ClientIndex, Granted>| {
            for (client, granted) in subscribers {
                found(*client, *granted);
            }
        };
        self.open.push((ROOT, 0));
        while let Some((at, offset)) = self.open.pop() {
            let node = &self.nodes[at];
            // v5 and v3.1.1 [MQTT-4.7.2-1]: no wildcard at the beginning matches a topic that begins with `$`.
            let wildcards = at != ROOT || !topic.starts_with('$');
            if wildcards {
                report(&node.below);
            }
            let Some(rest) = topic.get(offset..) else {
                report(&node.here);
                continue;
            };
            let level = rest.split('/').next().unwrap_or(rest);
            // Behind the last level this points past the end of the topic, where `get` finds nothing.
            let next = offset + level.len() + 1;
            if let Some(child) = node.children.get(level) {
                self.open.push((*child, next));
            }
            if let (Some(child), true) = (node.plus, wildcards) {
                self.open.push((child, next));
            }
        }
    }

    fn child(&self, at: usize, level: &str) -> Option<usize> {
        let node = &self.nodes[at];
        if level == "+" {
            node.plus
        } else {
            node.children.get(level).copied()
        }
    }

    fn grow(&mut self, at: usize, level: &str) -> Result<usize, TreeFull> {
        let child = match self.free.pop() {
            Some(child) => child,
            None if self.nodes.len() > self.nodes_max => return Err(TreeFull),
            None => {
                self.nodes.push(Node::default());
                self.nodes.len() - 1
            }
        };
        let node = &mut self.nodes[at];
        if level == "+" {
            node.plus = Some(child);
        } else {
            node.children.insert(level.into(), child);
        }
        Ok(child)
    }

    /// Removes the nodes along a filter's path that hold nothing, from its end upwards.
    fn prune(&mut self, filter: TopicFilter<'_>) {
        let (path, _) = split(filter);
        let mut steps: Vec<(usize, &str, usize)> = Vec::new();
        let mut at = ROOT;
        for level in path {
            let Some(child) = self.child(at, level) else { break };
            steps.push((at, level, child));
            at = child;
        }
        for (parent, level, child) in steps.into_iter().rev() {
            if !self.nodes[child].is_empty() {
                break;
            }
            // A fresh one, so that the memory of its maps is given back.
            self.nodes[child] = Node::default();
            self.free.push(child);
            let parent = &mut self.nodes[parent];
            if level == "+" {
                parent.plus = None;
            } else {
                parent.children.remove(level);
            }
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.nodes.len() - self.free.len() - 1
    }
}

impl Node {
    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.plus.is_none() && self.here.is_empty() && self.below.is_empty()
    }
}

/// The levels that have nodes, and whether `#` follows them. `#` alone has none: it lies below the root.
fn split(filter: TopicFilter<'_>) -> (impl Iterator<Item = &str>, bool) {
    let filter = filter.as_str();
    let below = filter == "#" || filter.ends_with("/#");
    let path = filter.split('/').take_while(|level| *level != "#");
    (path, below)
}

/// The node above all first levels; it is never removed.
const ROOT: usize = 0;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GRANTED: Granted = Granted {
        qos: QoS::AtLeastOnce,
        no_local: false,
        retain_as_published: false,
    };

    fn filter(text: &str) -> TopicFilter<'_> {
        TopicFilter::new(text).unwrap()
    }

    fn found(tree: &mut TopicTree, topic: &str) -> Vec<u32> {
        let mut clients = Vec::new();
        tree.search(TopicName::new(topic).unwrap(), |client, _| clients.push(client.0));
        clients.sort_unstable();
        clients
    }

    #[test]
    fn a_subscription_replaces_the_one_of_the_same_filter() {
        let mut tree = TopicTree::new(100);
        let (one, two) = (ClientIndex(1), ClientIndex(2));
        let less = Granted {
            qos: QoS::AtMostOnce,
            ..GRANTED
        };
        assert_eq!(tree.insert(filter("a/+"), one, GRANTED), Ok(None));
        assert_eq!(tree.insert(filter("a/+"), two, GRANTED), Ok(None));
        assert_eq!(tree.insert(filter("a/+"), one, less), Ok(Some(GRANTED)));
        assert_eq!(found(&mut tree, "a/b"), [1, 2]);
    }

    #[test]
    fn what_is_removed_leaves_no_node() {
        let mut tree = TopicTree::new(100);
        let filters = ["a/b/c", "a/+/c", "a/#", "#", "+", "/", "a", "$x/y"];
        for text in filters {
            tree.insert(filter(text), ClientIndex(1), GRANTED).unwrap();
        }
        assert!(!tree.remove(filter("a/b"), ClientIndex(1)));
        assert!(!tree.remove(filter("a/b/c"), ClientIndex(2)));
        for text in filters {
            assert!(tree.remove(filter(text), ClientIndex(1)), "{text}");
        }
        assert_eq!(tree.len(), 0);
        assert_eq!(found(&mut tree, "a/b/c"), [0; 0]);
    }

    #[test]
    fn a_full_tree_refuses_and_stays_as_it_was() {
        let mut tree = TopicTree::new(4);
        tree.insert(filter("a/b"), ClientIndex(1), GRANTED).unwrap();
        assert_eq!(
            tree.insert(filter("a/c/d/e"), ClientIndex(1), GRANTED),
            Err(TreeFull)
        );
        assert_eq!(tree.len(), 2);
        assert_eq!(tree.insert(filter("a/c/d"), ClientIndex(1), GRANTED), Ok(None));
        assert_eq!(tree.len(), 4);
        // `#` needs no node of its own.
        assert_eq!(tree.insert(filter("a/c/d/#"), ClientIndex(1), GRANTED), Ok(None));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(String, u32),
        Remove(String, u32),
        Search(String),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let filter = || "(\\$|a|b|\\+|)(/(a|b|\\+|)){0,3}(/#)?|#";
        proptest::collection::vec(
            prop_oneof![
                (filter(), 0..4u32).prop_map(|(filter, client)| Step::Insert(filter, client)),
                (filter(), 0..4u32).prop_map(|(filter, client)| Step::Remove(filter, client)),
                "(\\$|a|b|c|)(/(a|b|c|)){0,4}".prop_map(Step::Search),
            ],
            0..60,
        )
    }

    proptest! {
        #[test]
        fn it_finds_what_a_list_of_filters_finds(steps in steps()) {
            let mut tree = TopicTree::new(1000);
            let mut list: Vec<(String, u32)> = Vec::new();
            for step in steps {
                match step {
                    Step::Insert(text, client) => {
                        let Ok(filter) = TopicFilter::new(&text) else { continue };
                        let replaced = tree.insert(filter, ClientIndex(client), GRANTED).unwrap().is_some();
                        let entry = (text, client);
                        prop_assert_eq!(replaced, list.contains(&entry));
                        if !replaced {
                            list.push(entry);
                        }
                    }
                    Step::Remove(text, client) => {
                        let Ok(filter) = TopicFilter::new(&text) else { continue };
                        let entry = (text.clone(), client);
                        let at = list.iter().position(|held| *held == entry);
                        prop_assert_eq!(tree.remove(filter, ClientIndex(client)), at.is_some());
                        at.map(|at| list.swap_remove(at));
                    }
                    Step::Search(topic) => {
                        let Ok(name) = TopicName::new(&topic) else { continue };
                        let mut expected: Vec<u32> = list
                            .iter()
                            .filter(|(text, _)| TopicFilter::new(text).unwrap().matches(name))
                            .map(|(_, client)| *client)
                            .collect();
                        expected.sort_unstable();
                        prop_assert_eq!(found(&mut tree, &topic), expected);
                    }
                }
            }
            for (text, client) in list {
                tree.remove(TopicFilter::new(&text).unwrap(), ClientIndex(client));
            }
            prop_assert_eq!(tree.len(), 0);
        }
    }
}
