//! Certificates of authorities, which the sides check beside the key.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use lockkeeper::{
    Address, CallError, Manager, Pool,
    builders::{ClientBuilder, ManagerBuilder},
};
use lockkeeper_protocol::handshake::sha256;
use lockkeeper_test_support::{Role, in_own_process};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, PublicKeyData, date_time_ymd,
};

use crate::{
    Site,
    log::Log,
    run,
    services::{Draw, draws},
};

/// Encodes a section of a PEM file.
fn pem(kind: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {kind}-----\n");
    for line in der.chunks(48) {
        for three in line.chunks(3) {
            let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            for at in 0..4 {
                let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
                text.push(if at > three.len() {
                    '='
                } else {
                    char::from(digit)
                });
            }
        }
        text.push('\n');
    }
    text + &format!("-----END {kind}-----\n")
}

/// An authority that signs certificates, with the chain from it to the first one.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    chain: String,
}

/// A certificate with its private key.
struct Signed {
    chain: String,
    key: String,
    fingerprint: String,
}

fn parameters(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::new([]).unwrap();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        Self {
            issuer: CertifiedIssuer::self_signed(parameters(name), key).unwrap(),
            chain: String::new(),
        }
    }

    /// An authority that this one has signed.
    fn below(&self, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::signed_by(parameters(name), key, &self.issuer).unwrap();
        let chain = pem("CERTIFICATE", issuer.der()) + &self.chain;
        Self { issuer, chain }
    }

    fn pem(&self) -> String {
        pem("CERTIFICATE", self.issuer.der())
    }

    fn sign(&self, names: &[&str]) -> Signed {
        self.sign_with(names, |_| {})
    }

    fn sign_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Signed {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut parameters = CertificateParams::new(names).unwrap();
        change(&mut parameters);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        let digits = sha256(&key.subject_public_key_info());
        let digits: String = digits.iter().map(|it| format!("{it:02x}")).collect();
        Signed {
            chain: pem("CERTIFICATE", certificate.der()) + &self.chain,
            key: pem("PRIVATE KEY", &key.serialize_der()),
            fingerprint: format!("sha256:{digits}"),
        }
    }
}

/// The host names of most managers here.
const HOSTS: [&str; 2] = ["127.0.0.1", "localhost"];

/// Files in the folder of a site.
impl Site {
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Writes a certificate and its key.
    fn put(&self, name: &str, signed: &Signed) -> (PathBuf, PathBuf) {
        let chain = self.write(&format!("{name}.pem"), &signed.chain);
        (chain, self.write(&format!("{name}.key"), &signed.key))
    }

    /// A manager with a certificate.
    fn certified(&self, signed: &Signed) -> ManagerBuilder {
        let (chain, key) = self.put("manager", signed);
        let builder = self.builder().certificate(chain, key);
        builder.listen("tls://0.0.0.0:0")
    }

    fn client(&self) -> ClientBuilder {
        Manager::client().key_file(self.key())
    }

    /// A client that trusts an authority.
    fn trusting(&self, authority: &Authority) -> ClientBuilder {
        self.client()
            .ca_file(self.write("ca.pem", &authority.pem()))
    }

    /// A client that trusts an authority, and shows a certificate.
    fn showing(&self, authority: &Authority, signed: &Signed) -> ClientBuilder {
        let (chain, key) = self.put("client", signed);
        self.trusting(authority).certificate(chain, key)
    }
}

/// The endpoint of a manager by a name of its host. Each has files and a connection of its own in this process.
fn at(manager: &Manager, host: &str) -> Address {
    let text = manager.endpoints()[0].to_string();
    let port = text.split('#').next().unwrap().rsplit_once(':').unwrap().1;
    format!("tls://{host}:{port}").parse().unwrap()
}

async fn refused(client: ClientBuilder, endpoint: &Address, words: &[&str]) {
    let error = client.connect(endpoint).await.map(drop).unwrap_err();
    assert!(matches!(error, CallError::NoManager { .. }), "{error:?}");
    let shown = error.to_string();
    for word in words {
        assert!(shown.contains(word), "{word}: {shown}");
    }
}

/// Uses a lock, and returns whether the client may administer.
async fn served(client: ClientBuilder, endpoint: &Address) -> bool {
    let manager = client.connect(endpoint).await.unwrap();
    let lock = manager.named("lock").lock().await.unwrap();
    drop(lock.acquire().await.unwrap());
    manager.inspect().await.is_ok()
}

#[test]
fn certificate_of_the_authority_is_trusted_for_its_hosts_alone() {
    run(async {
        let site = Site::new();
        let (root, other, namesake) = (
            Authority::new("root"),
            Authority::new("other"),
            Authority::new("root"),
        );
        let signed = root.below("middle").below("lower").sign(&HOSTS);
        let manager = site.certified(&signed).start().await.unwrap();
        let shown = manager.endpoints()[0].to_string();
        assert!(!shown.contains('#'), "{shown}");
        let endpoint = at(&manager, "127.0.0.1");
        for foreign in [&other, &namesake] {
            let words = ["signed by no authority in the CA file", "ca.pem"];
            refused(site.trusting(foreign), &endpoint, &words).await;
        }
        // The client has the fingerprint of another key: that is checked too.
        let zeros = format!("{endpoint}#sha256:{}", "0".repeat(64));
        let words = [signed.fingerprint.as_str()];
        refused(site.trusting(&root), &zeros.parse().unwrap(), &words).await;
        let wrong = at(&manager, "127.0.0.2");
        let words = ["not for the host of the address", "127.0.0.2", "localhost"];
        refused(site.trusting(&root), &wrong, &words).await;
        for host in HOSTS {
            assert!(served(site.trusting(&root), &at(&manager, host)).await);
        }
        // Without authorities the key is the proof, as it is for a manager without a certificate.
        assert!(served(site.client(), &at(&manager, "127.0.0.3")).await);
        // The key is needed all the same.
        let stranger = Site::new();
        let words = ["no key of the name"];
        refused(stranger.trusting(&root), &at(&manager, "127.0.0.1"), &words).await;
    });
}

#[test]
fn third_party_with_the_key_and_a_certificate_of_another_authority_gets_no_client() {
    run(async {
        let site = Site::new();
        let (root, others) = (Authority::new("root"), Authority::new("others"));
        let third = Site::new();
        fs::copy(site.key(), third.key()).unwrap();
        // One with a certificate for the same host, and one without.
        let certified = third.certified(&others.sign(&HOSTS)).start().await.unwrap();
        let endpoint = at(&certified, "127.0.0.1");
        let words = ["signed by no authority in the CA file"];
        refused(site.trusting(&root), &endpoint, &words).await;
        drop(certified);
        let plain = third.start().await;
        let endpoint = at(&plain, "127.0.0.1");
        refused(site.trusting(&root), &endpoint, &words).await;
    });
}

/// Files that cannot be used, with the words of the error: the chain, the key and the reason.
fn bad_files(site: &Site, authority: &Authority) -> Vec<(PathBuf, PathBuf, Vec<String>)> {
    let signed = authority.sign(&HOSTS);
    let dated = |from, to| {
        authority.sign_with(&HOSTS, |parameters| {
            (parameters.not_before, parameters.not_after) =
                (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        })
    };
    let broken = format!("# a comment\n{}", signed.chain.replacen("MII", "M*I", 1));
    let cases = [
        ("missing", "", signed.key.as_str(), "No such file"),
        ("text", "hello", &signed.key, "it has no certificate in PEM"),
        ("broken", &broken, &signed.key, "at line 2 is no whole PEM"),
        (
            "half",
            &signed.chain[..200],
            &signed.key,
            "at line 1 is no whole PEM",
        ),
        (
            "other",
            &pem("CERTIFICATE", b"hello"),
            &signed.key,
            "at line 1 is no X.509",
        ),
        (
            "nokey",
            &signed.chain,
            &signed.chain,
            "it has no private key",
        ),
        (
            "bad",
            &signed.chain,
            &pem("PRIVATE KEY", b"hello"),
            "at line 1 is damaged",
        ),
        (
            "foreign",
            &signed.chain,
            &authority.sign(&HOSTS).key,
            "does not belong to the first certificate",
        ),
        ("open", &signed.chain, &signed.key, "chmod 600"),
    ]
    .map(|(name, chain, key, why)| (name, chain.to_owned(), key.to_owned(), why));
    let [old, early] = [dated(1990, 2000), dated(3000, 3001)];
    let dates = [
        ("old", old.chain, old.key, "has expired"),
        ("early", early.chain, early.key, "is not valid for another"),
    ];
    let all = cases.into_iter().chain(dates);
    all.map(|(name, chain, key, why)| {
        let (chain, key) = site.put(
            name,
            &Signed {
                chain,
                key,
                fingerprint: String::new(),
            },
        );
        let mut guilty = &chain;
        match name {
            "missing" => fs::remove_file(&chain).unwrap(),
            "open" => fs::set_permissions(&key, Permissions::from_mode(0o640)).unwrap(),
            _ => {}
        }
        if matches!(name, "nokey" | "bad" | "foreign" | "open") {
            guilty = &key;
        }
        let words = vec![why.to_owned(), guilty.display().to_string()];
        (chain, key, words)
    })
    .collect()
}

#[test]
fn bad_file_is_told_to_manager_and_client_with_its_line() {
    run(async {
        let site = Site::new();
        let root = Authority::new("root");
        let manager = site.certified(&root.sign(&HOSTS)).start().await.unwrap();
        let endpoint = at(&manager, "127.0.0.1");
        for (chain, key, words) in bad_files(&site, &root) {
            let other = Site::new();
            let builder = other.builder().listen("tls://127.0.0.1:0");
            let builder = builder.certificate(&chain, &key);
            let shown = builder.start().await.map(drop).unwrap_err().to_string();
            for word in &words {
                assert!(shown.contains(word), "{word}: {shown}");
            }
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            refused(site.client().certificate(chain, key), &endpoint, &words).await;
        }
        let text = site.write("text", "hello");
        for file in [site.path("none"), text] {
            let words = ["cannot use the certificate file", file.to_str().unwrap()];
            let good = site.put("good", &root.sign(&HOSTS));
            let client = site.client().certificate(good.0, good.1).ca_file(&file);
            refused(client, &endpoint, &words).await;
            let other = Site::new();
            let builder = other.builder().listen("tls://127.0.0.1:0").client_ca(&file);
            let shown = builder.spawn().await.map(drop).unwrap_err().to_string();
            for word in words {
                assert!(shown.contains(word), "{word}: {shown}");
            }
        }
        // Nothing would check them.
        let local: Address = "jobs".parse().unwrap();
        let words = ["leave out key_file, ca_file and certificate"];
        refused(Manager::client().ca_file("ca.pem"), &local, &words).await;
        let started = Manager::builder().client_ca("ca.pem").start().await;
        let shown = started.map(drop).unwrap_err().to_string();
        assert!(shown.contains("the manager listens nowhere"), "{shown}");
    });
}

#[test]
fn client_without_a_certificate_of_the_authority_is_refused_and_told() {
    in_own_process(|| {
        run(async {
            let log = Log::start();
            let site = Site::new();
            let (root, clients) = (Authority::new("root"), Authority::new("clients"));
            let builder = site.certified(&root.sign(&HOSTS));
            let builder = builder.client_ca(site.write("clients.pem", &clients.pem()));
            let manager = builder.start().await.unwrap();
            let endpoint = at(&manager, "127.0.0.1");
            let words = [
                "requires a certificate of its clients",
                "certificate(chain_file",
            ];
            refused(site.trusting(&root), &endpoint, &words).await;
            log.wait_for(1, &["client refused", "it has shown no certificate"])
                .await;
            let others = [Authority::new("others"), Authority::new("clients")];
            for foreign in others.iter().chain([&root]) {
                let client = site.showing(&root, &foreign.sign(&["ci"]));
                let words = ["no authority in its CA file has signed it"];
                refused(client, &endpoint, &words).await;
            }
            let server = clients.sign_with(&["ci"], |parameters| {
                parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            });
            let (chain, key) = site.put("server", &server);
            let words = ["clientAuth"];
            refused(site.client().certificate(chain, key), &endpoint, &words).await;
            // The certificate does not replace the key.
            let (chain, key) = site.put("client", &clients.sign(&["ci"]));
            let stranger = Site::new();
            let client = stranger.client().certificate(&chain, &key);
            refused(client, &endpoint, &["no key of the name"]).await;
            assert!(served(site.client().certificate(chain, key), &endpoint).await);
        });
    });
}

#[test]
fn certificate_that_the_manager_does_not_want_is_not_shown() {
    run(async {
        let site = Site::new();
        let root = Authority::new("root");
        let manager = site.certified(&root.sign(&HOSTS)).start().await.unwrap();
        let foreign = Authority::new("others").sign(&["ci"]);
        let line = format!("{} no-admin\n", foreign.fingerprint);
        let keys = fs::read_to_string(site.key()).unwrap();
        fs::write(site.key(), keys + &line).unwrap();
        assert!(served(site.showing(&root, &foreign), &at(&manager, "localhost")).await);
    });
}

#[test]
fn rights_are_those_of_the_certificate_before_those_of_the_key() {
    run(async {
        let site = Site::new();
        let (root, clients) = (Authority::new("root"), Authority::new("clients"));
        let hosts = ["127.0.0.1", "127.0.0.2", "127.0.0.3"];
        let [operator, ci, other] = [(); 3].map(|()| clients.sign(&[]));
        let keys = fs::read_to_string(site.key()).unwrap();
        let (operator_name, ci_name) = (&operator.fingerprint, &ci.fingerprint);
        let keys = format!(
            "{} no-admin\n{operator_name}\n{ci_name} prefix=ci/\n",
            keys.trim()
        );
        fs::write(site.key(), keys).unwrap();
        let builder = site.certified(&root.sign(&hosts));
        let builder = builder.client_ca(site.write("clients.pem", &clients.pem()));
        let manager = builder.start().await.unwrap();
        let [first, second, third] = hosts.map(|host| at(&manager, host));
        assert!(served(site.showing(&root, &operator), &first).await);
        assert!(!served(site.showing(&root, &other), &second).await);
        let client = site.showing(&root, &ci).connect(third).await.unwrap();
        client.named("ci/lock").lock().await.unwrap();
        let shown = client.named("lock").lock().await.map(drop);
        let shown = shown.unwrap_err().to_string();
        assert!(shown.contains(ci_name.as_str()), "{shown}");
        assert!(shown.contains("ci/"), "{shown}");
    });
}

#[test]
fn workers_of_a_pool_show_the_certificate_of_the_program() {
    run(async {
        let site = Site::new();
        let (root, clients) = (Authority::new("root"), Authority::new("clients"));
        let builder = site.certified(&root.sign(&HOSTS));
        let builder = builder.client_ca(site.write("clients.pem", &clients.pem()));
        let server = builder.spawn().await.unwrap();
        let client = site.showing(&root, &clients.sign(&["ci"]));
        let manager = client.connect(at(&server, "localhost")).await.unwrap();
        let permits = manager.semaphore(2).await.unwrap();
        let inside = manager.value((0_u64, 0_u64)).await.unwrap();
        let pool = Pool::new(3).await.unwrap();
        // The workers got what was in the files when they were started.
        for name in ["key", "ca.pem", "client.pem", "client.key"] {
            fs::remove_file(site.path(name)).unwrap();
        }
        let all: Vec<Draw> = draws(20, &permits, &inside);
        let squares = pool.try_map(all).await.unwrap();
        let squares: Vec<_> = squares.into_iter().map(Result::unwrap).collect();
        assert_eq!(squares, (0..20).map(|it| it * it).collect::<Vec<_>>());
    });
}

#[test]
fn process_finds_its_files_by_the_environment() {
    run(async {
        let site = Site::new();
        let (root, clients) = (Authority::new("root"), Authority::new("clients"));
        let builder = site.certified(&root.sign(&HOSTS));
        let builder = builder.client_ca(site.write("clients.pem", &clients.pem()));
        let manager = builder.start().await.unwrap();
        let (chain, key) = site.put("client", &clients.sign(&["ci"]));
        let ca = site.write("ca.pem", &root.pem());
        let start = |role: &str, files: &[(&str, &Path)]| {
            let mut program = Command::new(std::env::current_exe().unwrap());
            program.env("LOCKKEEPER_KEY_FILE", site.key());
            program.envs(files.iter().copied());
            Role::start_by(&mut program, role, &at(&manager, "localhost"))
        };
        let all = [
            ("LOCKKEEPER_CA_FILE", &*ca),
            ("LOCKKEEPER_CERTIFICATE_FILE", &chain),
            ("LOCKKEEPER_CERTIFICATE_KEY_FILE", &key),
        ];
        assert_eq!(start("net::counter", &all).next_report(), "done");
        let told = start("net::stranger", &all[..2]).next_report();
        assert!(
            told.contains("LOCKKEEPER_CERTIFICATE_KEY_FILE is not: set both"),
            "{told}"
        );
        let told = start("net::stranger", &all[..1]).next_report();
        assert!(told.contains("requires a certificate"), "{told}");
    });
}

#[test]
fn replaced_files_are_read_again_and_bad_ones_change_nothing() {
    in_own_process(|| {
        run(async {
            let log = Log::start();
            let site = Site::new();
            let [old, new] = ["old", "new"].map(Authority::new);
            let hosts = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"];
            let builder = site.certified(&old.sign(&hosts));
            let builder = builder.client_ca(site.write("clients.pem", &old.pem()));
            let manager = builder.start().await.unwrap();
            let [first, second, third, fourth] = hosts.map(|host| at(&manager, host));
            let client = site
                .showing(&old, &old.sign(&[]))
                .connect(first)
                .await
                .unwrap();
            // The key has not followed yet.
            let signed = new.sign(&hosts);
            site.write("manager.pem", &signed.chain);
            assert!(served(site.showing(&old, &old.sign(&[])), &second).await);
            log.wait_for(
                1,
                &["keys not read again", "manager.key", "does not belong"],
            )
            .await;
            site.put("manager", &signed);
            let words = ["signed by no authority"];
            refused(site.showing(&old, &old.sign(&[])), &third, &words).await;
            assert!(served(site.showing(&new, &old.sign(&[])), &third).await);
            // The old authority is revoked. A missing file does not bring it back.
            site.write("clients.pem", &new.pem());
            let words = ["no authority in its CA file has signed it"];
            refused(site.showing(&new, &old.sign(&[])), &fourth, &words).await;
            fs::remove_file(site.path("clients.pem")).unwrap();
            refused(site.showing(&new, &old.sign(&[])), &fourth, &words).await;
            assert!(served(site.showing(&new, &new.sign(&[])), &fourth).await);
            // A session that has begun continues.
            client.named("lock").lock().await.unwrap();
        });
    });
}
