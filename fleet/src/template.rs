//! Patterns such as `fleet/{client_id}/telemetry`, one value per device.

use std::fmt;

/// A pattern whose placeholders are known to be ones that it may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

/// What a device puts into the placeholders.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names<'a> {
    /// For `{index}`.
    pub(crate) index: u64,
    /// For `{client_id}`.
    pub(crate) client_id: &'a str,
}

impl Template {
    /// A pattern that may hold `{index}` and `{client_id}`.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        Self::parse_with(text, &["client_id", "index"])
    }

    /// The pattern of the client id itself, which may hold `{index}` only.
    pub(crate) fn parse_client_id(text: &str) -> Result<Self, TemplateError> {
        Self::parse_with(text, &["index"])
    }

    fn parse_with(text: &str, known: &'static [&'static str]) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            if rest.as_bytes().get(open) == Some(&b'}') {
                return Err(TemplateError::Unbalanced);
            }
            let (literal, placeholder) = rest.split_at(open);
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            let (name, after) = placeholder[1..]
                .split_once('}')
                .ok_or(TemplateError::Unbalanced)?;
            if !known.contains(&name) {
                return Err(TemplateError::Unknown {
                    name: name.to_owned(),
                    known,
                });
            }
            parts.push(if name == "index" {
                Part::Index
            } else {
                Part::ClientId
            });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Ok(Self { parts })
    }

    /// Whether each device gets a value of its own.
    pub(crate) fn varies(&self) -> bool {
        self.parts.iter().any(|part| !matches!(part, Part::Literal(_)))
    }

    /// The value for one device.
    pub(crate) fn render(&self, names: Names<'_>) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::ClientId => text.push_str(names.client_id),
                Part::Index => text.push_str(&names.index.to_string()),
            }
        }
        text
    }

    /// The value of a client id pattern, which has no client id to refer to yet.
    pub(crate) fn render_client_id(&self, index: u64) -> String {
        self.render(Names { index, client_id: "" })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Literal(literal) => f.write_str(literal),
            Part::ClientId => f.write_str("{client_id}"),
            Part::Index => f.write_str("{index}"),
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    ClientId,
    Index,
}

/// Why a pattern is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TemplateError {
    /// A brace without its partner.
    Unbalanced,
    /// A placeholder that this pattern may not hold.
    Unknown {
        /// What stands between the braces.
        name: String,
        /// What may stand there.
        known: &'static [&'static str],
    },
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unbalanced => f.write_str("a brace has no partner: placeholders look like {index}"),
            Self::Unknown { name, known } => {
                write!(f, "unknown placeholder {{{name}}}: use ")?;
                for (position, name) in known.iter().enumerate() {
                    write!(f, "{}{{{name}}}", if position == 0 { "" } else { " or " })?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(name: &str, known: &'static [&'static str]) -> TemplateError {
        TemplateError::Unknown {
            name: name.to_owned(),
            known,
        }
    }

    #[test]
    fn placeholders_are_filled_in() {
        let names = Names {
            index: 17,
            client_id: "device-17",
        };
        for (pattern, value, varies) in [
            ("fleet/{client_id}/telemetry", "fleet/device-17/telemetry", true),
            ("{index}", "17", true),
            ("{client_id}{index}", "device-1717", true),
            ("plain", "plain", false),
            ("", "", false),
        ] {
            let template = Template::parse(pattern).unwrap();
            assert_eq!(template.render(names), value);
            assert_eq!(template.varies(), varies, "{pattern}");
            assert_eq!(template.to_string(), pattern);
        }
    }

    #[test]
    fn unknown_and_unbalanced_placeholders_are_refused() {
        assert_eq!(
            Template::parse("a/{id}"),
            Err(unknown("id", &["client_id", "index"]))
        );
        assert_eq!(Template::parse("{}"), Err(unknown("", &["client_id", "index"])));
        assert_eq!(
            Template::parse("{{index}}"),
            Err(unknown("{index", &["client_id", "index"]))
        );
        assert_eq!(Template::parse("{index"), Err(TemplateError::Unbalanced));
        assert_eq!(Template::parse("index}"), Err(TemplateError::Unbalanced));
        assert_eq!(
            Template::parse_client_id("{client_id}"),
            Err(unknown("client_id", &["index"]))
        );
        assert_eq!(
            Template::parse("{x}").unwrap_err().to_string(),
            "unknown placeholder {x}: use {client_id} or {index}"
        );
    }
}
