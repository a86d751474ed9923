//! Why a command ends early, and the exit code that says so.

use std::fmt;
use std::process::ExitCode;

/// Why a command ended without doing its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// The command line asks for something that cannot be meant.
    Usage(String),
    /// The run was not started: this machine, these files or that name do not allow it.
    Refused {
        /// A stable name for programs, as in the JSON.
        slug: &'static str,
        /// What is wrong, with the arithmetic or the file names, and what to do.
        text: String,
    },
    /// Something failed on the way.
    Failed(String),
    /// Ctrl-C came before anything was dialled.
    Interrupted,
}

impl Problem {
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    pub(crate) fn refused(slug: &'static str, text: impl Into<String>) -> Self {
        Self::Refused {
            slug,
            text: text.into(),
        }
    }

    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self::Failed(text.into())
    }

    /// What is wrong, without the words around it.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Usage(text) | Self::Refused { text, .. } | Self::Failed(text) => text,
            Self::Interrupted => "interrupted before the first dial",
        }
    }

    /// The process's exit code.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Refused { .. } => Exit::Refused,
            Self::Failed(_) => Exit::Failed,
            Self::Interrupted => Exit::Interrupted,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) => write!(f, "error: {text}\n\nFor more information, try '--help'."),
            Self::Refused { slug, text } => write!(f, "error: refused to start ({slug}): {text}"),
            Self::Failed(text) => write!(f, "error: {text}"),
            Self::Interrupted => f.write_str(self.text()),
        }
    }
}

/// How the process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// All connected, nothing lost.
    Done,
    /// Somebody did not connect, something was lost, or the command failed.
    Failed,
    /// The command line is wrong.
    Usage,
    /// Nothing was started.
    Refused,
    /// Ctrl-C, SIGTERM or SIGHUP.
    Interrupted,
}

impl Exit {
    /// The number that the shell sees.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
