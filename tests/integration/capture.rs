//! Change capture against Google's emulator, behind a proxy that listens as production does. Whoever writes notes what
//! was committed when: that is the oracle, and no moment may be restored to anything else.

pub mod author;
mod boundary;
mod crowd;
mod events;
pub mod histories;
mod history;
pub mod oracle;
pub mod place;
pub mod trouble;
mod ways;
pub mod writer;
