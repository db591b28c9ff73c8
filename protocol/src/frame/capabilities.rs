//! `Capabilities`: the features of a peer beyond the base of the protocol.
//!
//! Both sides list their capabilities in the first frame. A side uses a capability only if the other side has
//! listed it, and ignores unknown names, so peers of different releases work together.

use serde::{Serialize, Serializer, ser::SerializeSeq};

use crate::codec::{error::CodecError, fields::Fields};

/// A feature that a client or a manager may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// A client sends the calling task or thread with each call (`CallBy`). A manager lists it only while it
    /// searches for deadlocks.
    Callers,
    /// The manager reads records from a pipe (`ReportPipe`).
    Reports,
    /// A client supports managers with several shards.
    Shards,
    /// A client renews the lease of its session (`Beat`), and says when it ends it (`Goodbye`).
    Leases,
}

impl Capability {
    const ALL: [Self; 4] = [Self::Callers, Self::Reports, Self::Shards, Self::Leases];

    /// The name in a frame.
    const fn name(self) -> &'static str {
        match self {
            Self::Callers => "callers",
            Self::Reports => "reports",
            Self::Shards => "shards",
            Self::Leases => "leases",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Callers => 1,
            Self::Reports => 2,
            Self::Shards => 4,
            Self::Leases => 8,
        }
    }
}

/// A set of capabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(u8);

impl Capabilities {
    /// The empty set, for a peer that lists no capability.
    pub const NONE: Self = Self(0);

    /// All capabilities of this release.
    pub const ALL: Self = Self::NONE
        .with(Capability::Callers)
        .with(Capability::Reports)
        .with(Capability::Shards)
        .with(Capability::Leases);

    /// Adds a capability.
    #[must_use]
    pub const fn with(self, capability: Capability) -> Self {
        Self(self.0 | capability.bit())
    }

    /// Removes a capability.
    #[must_use]
    pub const fn without(self, capability: Capability) -> Self {
        Self(self.0 & !capability.bit())
    }

    /// Returns whether the set has a capability.
    #[must_use]
    pub const fn has(self, capability: Capability) -> bool {
        self.0 & capability.bit() != 0
    }

    /// Decodes the capabilities of a peer.
    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Self, CodecError> {
        let mut capabilities = Self::NONE;
        fields.texts(|name| capabilities.add_named(name))?;
        Ok(capabilities)
    }

    /// Adds the capability with that name, if this release knows it.
    fn add_named(&mut self, name: &str) {
        let known = Capability::ALL
            .into_iter()
            .find(|known| known.name() == name);
        if let Some(known) = known {
            *self = self.with(known);
        }
    }
}

impl Serialize for Capabilities {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let named = || Capability::ALL.into_iter().filter(|one| self.has(*one));
        let mut names = serializer.serialize_seq(Some(named().count()))?;
        for capability in named() {
            names.serialize_element(capability.name())?;
        }
        names.end()
    }
}
