//! The ports on ministack.
