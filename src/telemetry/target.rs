//! The targets of events, by which a subscriber filters.

pub(super) const MANAGER: &str = "lockkeeper::manager";
pub(super) const SESSION: &str = "lockkeeper::session";
pub(super) const CLIENT: &str = "lockkeeper::client";
pub(super) const CALL: &str = "lockkeeper::call";
pub(super) const POOL: &str = "lockkeeper::pool";
