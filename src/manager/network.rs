//! The network settings of managers and clients: endpoints and key files, with the feature `net`.

use std::path::{self, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    address::Address,
    address_error::AddressError,
    certificate_files::{self, CertificateFiles},
    error::{CallError, StartError},
    keys::{self, HandedFile, KEY_FILE_VARIABLE, KeyRing},
    server::{network::endpoints::Endpoints, server::Server, state::state::State},
};

/// The network settings of a manager that is not started yet.
#[derive(Debug, Default)]
pub(super) struct NetworkSettings {
    pub(super) endpoints: Vec<Result<Address, AddressError>>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) certificates: CertificateFiles,
}

/// The endpoints of a manager, and the keys of their clients.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Network {
    endpoints: Vec<Address>,
    keys: HandedFile,
    certificates: CertificateFiles,
}

/// Chooses the key file and the certificate files of a client.
///
/// # Errors
///
/// Returns an error for an address that needs none: they would not be checked.
pub(super) fn choose_files(
    address: &Address,
    key_file: Option<PathBuf>,
    certificates: CertificateFiles,
) -> Result<(), CallError> {
    if key_file.is_none() && certificates.is_empty() {
        return Ok(());
    }
    let Some(place) = address.network() else {
        return Err(CallError::NoManager {
            address: address.clone(),
            why:
                "a key file or a certificate was given for it, and only a manager at tls://host:port asks for one"
                    .to_owned(),
            advice: "leave out key_file, ca_file and certificate, or use the address of an endpoint".to_owned(),
        });
    };
    if let Some(file) = key_file {
        // A relative path means the same after a change of the folder.
        let file = path::absolute(&file).unwrap_or(file);
        keys::choose(place.endpoint(), file);
    }
    if !certificates.is_empty() {
        certificate_files::choose(place.endpoint(), certificates);
    }
    Ok(())
}

impl NetworkSettings {
    /// Checks the settings. `None` means that the manager has no endpoint.
    ///
    /// # Errors
    ///
    /// Returns which setting is wrong or missing.
    pub(super) fn checked(self, has_state: bool) -> Result<Option<Network>, StartError> {
        let endpoints: Vec<_> = self.endpoints.into_iter().collect::<Result<_, _>>()?;
        let unusable = |why: String| Err(StartError::InvalidSettings(why));
        let Some(first) = endpoints.first() else {
            return match self.key_file {
                Some(file) => unusable(format!(
                    "the key file {} is for clients on other machines, and the manager listens nowhere for them: add \
                     .listen(\"tls://host:port\"), or leave out key_file",
                    file.display()
                )),
                None if !self.certificates.is_empty() => unusable(
                    "certificate and client_ca are for clients on other machines, and the manager listens nowhere for \
                     them: add .listen(\"tls://host:port\"), or leave them out"
                        .to_owned(),
                ),
                None => Ok(None),
            };
        };
        for endpoint in &endpoints {
            let place = endpoint.network();
            let is_plain = place.is_some_and(|it| it.shard == 0 && it.fingerprint.is_none());
            if !is_plain {
                return unusable(format!(
                    "a manager cannot listen at {endpoint}: give listen() an address tls://host:port without a \
                     fingerprint, and the address of the manager on this machine to address()"
                ));
            }
        }
        if !has_state {
            return unusable(format!(
                "a manager at the network endpoint {first} needs a state folder, which keeps what the next manager \
                 has to know: give it .state_folder(\"/var/lib/..\")"
            ));
        }
        let file = self
            .key_file
            .or_else(|| Some(std::env::var_os(KEY_FILE_VARIABLE)?.into()));
        let Some(file) = file else {
            return unusable(format!(
                "a manager at the network endpoint {first} needs a key file: make one with \
                 lockkeeper::net::make_key_file, and give it by .key_file(path) or in {KEY_FILE_VARIABLE}"
            ));
        };
        // A manager in another process may have another current folder.
        let file = path::absolute(&file).unwrap_or(file);
        let ring =
            KeyRing::open(&file).map_err(|error| StartError::InvalidSettings(error.to_string()))?;
        Ok(Some(Network {
            endpoints,
            keys: ring.handed(),
            certificates: self.certificates.read(),
        }))
    }

    /// Refuses endpoints of a manager in memory.
    pub(super) fn refuse_in_memory(&self) -> Result<(), StartError> {
        let is_local = self.endpoints.is_empty() && self.key_file.is_none();
        match is_local && self.certificates.is_empty() {
            true => Ok(()),
            false => Err(StartError::InvalidSettings(
                "a manager in memory is reachable only within its process: use start(), or leave out listen, \
                 key_file, certificate and client_ca"
                    .to_owned(),
            )),
        }
    }
}

/// Refuses an endpoint as the address of a manager.
pub(super) fn refuse_endpoint(address: &Address) -> Result<(), StartError> {
    match address.network() {
        None => Ok(()),
        Some(_) => Err(StartError::InvalidSettings(format!(
            "{address} is an endpoint for other machines, and a manager has an address on its own machine beside it: \
             give the endpoint to .listen(..) in place of .address(..)"
        ))),
    }
}

impl Network {
    /// Binds the endpoints, and adds their clients to the servers of the shards.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Endpoints::bind`].
    pub(super) fn bind(
        self,
        servers: Vec<Server>,
        state: Option<&State>,
        shards: u32,
        frees_on_close: bool,
    ) -> Result<Vec<Server>, StartError> {
        let Some(state) = state else {
            let why = "a manager at a network endpoint needs a state folder".to_owned();
            return Err(StartError::InvalidSettings(why));
        };
        let keys = KeyRing::from(self.keys);
        let bound = Endpoints::bind(
            &self.endpoints,
            keys,
            self.certificates,
            state,
            shards,
            frees_on_close,
        )?;
        let add = |(server, listener)| Server {
            others: vec![listener],
            endpoints: bound.addresses.clone(),
            ..server
        };
        Ok(servers.into_iter().zip(bound.listeners).map(add).collect())
    }
}
