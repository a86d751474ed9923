//! Which configuration a server name gets.

use rustls_pki_types::DnsName;

use crate::config_error::ConfigError;

/// A table of server names, each with what it stands for. They are found without regard to case and without the dot at
/// their end (RFC 6066 section 3).
pub(super) struct Names<T> {
    /// As [`host_name`] has them, in order; `*.example` is any name of one label more than `example`.
    sorted: Vec<(Box<str>, T)>,
}

impl<T> Names<T> {
    /// # Errors
    /// What is no DNS name, with `*.` in front or not, and a name that is there twice: the second could never be found.
    pub(super) fn new(mut names: Vec<(Box<str>, T)>) -> Result<Self, ConfigError> {
        for (name, _) in &names {
            if DnsName::try_from(name.strip_prefix(ANY_LABEL).unwrap_or(name)).is_err() {
                return Err(ConfigError::BadHostName(name.to_string()));
            }
        }
        names.sort_by(|(left, _), (right, _)| left.cmp(right));
        for (next, (name, _)) in names.iter().skip(1).zip(&names) {
            if next.0 == *name {
                return Err(ConfigError::RepeatedHostName(name.to_string()));
            }
        }
        Ok(Self { sorted: names })
    }

    /// What a name stands for: its own entry counts before that of `*.` and its parent. It allocates nothing.
    pub(super) fn find(&self, name: &str) -> Option<&T> {
        let name = without_final_dot(name);
        self.get("", name).or_else(|| {
            let (_, parent) = name.split_once('.')?;
            self.get(ANY_LABEL, parent)
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(Box<str>, T)> {
        self.sorted.iter()
    }

    fn get(&self, prefix: &str, name: &str) -> Option<&T> {
        let wanted = prefix.bytes().chain(name.bytes());
        let wanted = wanted.map(|byte| byte.to_ascii_lowercase());
        let place = self
            .sorted
            .binary_search_by(|(known, _)| known.bytes().cmp(wanted.clone()));
        self.sorted.get(place.ok()?).map(|(_, found)| found)
    }
}

/// A DNS name as names are compared (RFC 6066 section 3): in lower case, without the dot that makes it absolute.
pub(crate) fn host_name(name: &str) -> Box<str> {
    without_final_dot(name).to_ascii_lowercase().into_boxed_str()
}

fn without_final_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

const ANY_LABEL: &str = "*.";

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Result<Names<usize>, ConfigError> {
        let numbered = names.iter().enumerate();
        Names::new(numbered.map(|(number, name)| (host_name(name), number)).collect())
    }

    #[test]
    fn names_are_found() {
        let names = names(&["b.example", "*.Example", "a.example.", "*.a.example", "localhost"]).unwrap();
        for (name, found) in [
            ("b.example", Some(0)),
            ("B.EXAMPLE.", Some(0)),
            // The name itself before the wildcard.
            ("a.example", Some(2)),
            ("c.example", Some(1)),
            // One label and no more, and not none.
            ("c.a.example", Some(3)),
            ("d.c.a.example", None),
            ("c.b.example", None),
            ("example", None),
            (".example", Some(1)),
            ("LocalHost", Some(4)),
            ("c.localhost", None),
            ("", None),
            (".", None),
            ("..", None),
        ] {
            let mut answer = None;
            let counted = allocation_counter::measure(|| answer = names.find(name).copied());
            assert_eq!((answer, counted.count_total), (found, 0), "{name}");
        }
    }

    #[test]
    fn names_that_cannot_be_served() {
        for name in [
            "",
            ".",
            "127.0.0.1",
            "a b",
            "*",
            "*.",
            "a.*.example",
            "*.*.example",
            "*a.example",
            "*.127.0.0.1",
        ] {
            let error = names(&["localhost", name]).err();
            assert!(
                matches!(error, Some(ConfigError::BadHostName(_))),
                "{name}: {error:?}"
            );
        }
        for (name, again) in [("a.example", "A.Example."), ("*.example", "*.EXAMPLE")] {
            let error = names(&[name, "b.example", again]).err();
            assert_eq!(error, Some(ConfigError::RepeatedHostName(name.to_owned())));
        }
    }
}
