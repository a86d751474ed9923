use std::fmt;
use std::hint::black_box;

/// The users that may connect without a client certificate.
#[derive(Clone, Default)]
pub(crate) struct Users(Vec<(String, Vec<u8>)>);

impl Users {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a user; `false` where the name is empty, has a `?`, or is there already.
    pub(crate) fn add(&mut self, name: &str, password: &[u8]) -> bool {
        let usable = !name.is_empty() && !name.contains('?') && self.0.iter().all(|(other, _)| other != name);
        if usable {
            self.0.push((name.to_owned(), password.to_owned()));
        }
        usable
    }

    /// Whether a CONNECT names a user and its password. From `?` on the name is left out: AWS's SDKs append their name and
    /// version there.
    ///
    /// How long it takes depends on the lengths only, not on how much of a name or password is right.
    pub(crate) fn admit(&self, username: Option<&str>, password: Option<&[u8]>) -> bool {
        let (Some(username), Some(password)) = (username, password) else {
            return false;
        };
        let username = username.split('?').next().unwrap_or(username);
        let mut admitted = false;
        for (name, secret) in &self.0 {
            admitted |= same(username.as_bytes(), name.as_bytes()) & same(password, secret);
        }
        admitted
    }
}

impl fmt::Debug for Users {
    /// Without the passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

/// Compares every byte, whatever the ones before were.
fn same(given: &[u8], secret: &[u8]) -> bool {
    let mut differences = u8::from(given.len() != secret.len());
    for (given, secret) in given.iter().zip(secret) {
        differences = black_box(differences | given ^ secret);
    }
    differences == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_users_own_password_is_right() {
        let mut users = Users::default();
        assert!(!users.admit(Some("ada"), Some(b"")));
        assert!(users.add("ada", b"secret") && users.add("bob", b""));
        for (username, password, expected) in [
            (Some("ada"), Some(&b"secret"[..]), true),
            (Some("ada?SDK=NodeJSv2&Version=1.3.8"), Some(b"secret"), true),
            (Some("bob"), Some(b""), true),
            (Some("ada"), Some(b"secreT"), false),
            (Some("ada"), Some(b"secret1"), false),
            (Some("ada"), Some(b""), false),
            (Some("ada"), None, false),
            (Some("bob"), Some(b"secret"), false),
            (Some("Ada"), Some(b"secret"), false),
            (Some("?ada"), Some(b"secret"), false),
            (Some(""), Some(b""), false),
            (None, Some(b"secret"), false),
            (None, None, false),
        ] {
            assert_eq!(
                users.admit(username, password),
                expected,
                "{username:?} {password:?}"
            );
        }
    }

    #[test]
    fn names_that_could_never_match_are_refused() {
        let mut users = Users::default();
        assert!(users.add("ada", b"1") && !users.add("ada", b"2"));
        assert!(!users.add("", b"1") && !users.add("a?b", b"1"));
        assert_eq!(format!("{users:?}"), r#"["ada"]"#);
    }
}
