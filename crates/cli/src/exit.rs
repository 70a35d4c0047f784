//! How the program ends, for whoever started it.

use std::process::ExitCode;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// What was asked for.
    Fine,
    /// Name or password are wrong.
    Password,
    /// There is no such room or address, or it does not want us.
    Refused,
    /// There is no way to the service.
    Unreachable,
}

impl From<Exit> for ExitCode {
    /// 1 is any other fault, 2 a wrong command line.
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Fine => 0,
            Exit::Password => 3,
            Exit::Refused => 4,
            Exit::Unreachable => 5,
        })
    }
}
