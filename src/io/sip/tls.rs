//! Certificates: ours, and whom those of peers name (RFC 3261 §26.3, RFC 5922).
//!
//! Phones show no certificate; they prove who they are by digest. A proxy may show one, and if it is from
//! an authority of [`Sip::tls_client_ca`](crate::config::Sip) the domains that it names are told to the
//! phone face, which knows whom it trusts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::config::{Problem, Sip};

/// What is needed for TLS on both sides, as the files said when they were last read.
#[derive(Debug)]
pub struct Tls {
    files: Files,
    current: Mutex<Current>,
}

/// When a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Not before.
    pub from: SystemTime,
    /// Not after.
    pub until: SystemTime,
}

#[derive(Debug)]
struct Files {
    certificate: String,
    key: String,
    authorities: Option<String>,
    /// Whom we may find at the other end of a connection of ours, besides the address that we called.
    domains: Vec<ServerName<'static>>,
}

#[derive(Debug)]
struct Current {
    /// What the files held when they were last looked at.
    seen: Contents,
    acceptor: Arc<ServerConfig>,
    connector: Option<Arc<ClientConfig>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authorities: Option<Vec<u8>>,
}

impl Tls {
    /// Reads the files; `None` if there is no certificate.
    ///
    /// # Errors
    /// What cannot be read or used, by its key.
    pub fn load(sip: &Sip) -> Result<Option<Self>, Problem> {
        let (Some(certificate), Some(key)) = (&sip.tls_certificate, &sip.tls_key) else {
            return Ok(None);
        };
        let domains = sip.trusted_domains.iter();
        let domains: Result<_, _> =
            domains.map(|name| ServerName::try_from(name.clone())).collect();
        let domains = domains.map_err(|_| problem(DOMAINS, "must be domain names"))?;
        let files = Files {
            certificate: certificate.clone(),
            key: key.clone(),
            authorities: sip.tls_client_ca.clone(),
            domains,
        };
        let seen = files.read()?;
        let (acceptor, connector) = files.configure(&seen)?;
        Ok(Some(Self { files, current: Mutex::new(Current { seen, acceptor, connector }) }))
    }

    /// Reads the files again. Returns whether there was something new; what is new counts for connections
    /// from here on.
    ///
    /// # Errors
    /// What is new and cannot be used, told once; what was read before stays in use.
    pub fn reload(&self) -> Result<bool, Problem> {
        let contents = self.files.read()?;
        let mut current = self.lock();
        if contents == current.seen {
            return Ok(false);
        }
        current.seen = contents;
        (current.acceptor, current.connector) = self.files.configure(&current.seen)?;
        Ok(true)
    }

    /// From when to when our certificate is good; `None` if it does not say so legibly.
    pub fn validity(&self) -> Option<Validity> {
        let pem = self.lock().seen.certificate.clone();
        let certificate = CertificateDer::pem_slice_iter(&pem).next()?.ok()?;
        let (_, read) = x509_parser::parse_x509_certificate(&certificate).ok()?;
        let at = |time: x509_parser::time::ASN1Time| {
            let seconds = u64::try_from(time.timestamp()).ok()?;
            UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
        };
        Some(Validity { from: at(read.validity.not_before)?, until: at(read.validity.not_after)? })
    }

    /// For a connection that a peer opens.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.lock().acceptor).into()
    }

    /// For a connection that we open; `None` if we know no authorities to verify its other end.
    pub(super) fn connector(&self) -> Option<TlsConnector> {
        self.lock().connector.clone().map(TlsConnector::from)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    fn read(&self) -> Result<Contents, Problem> {
        let read = |key, file: &String| {
            fs::read(file).map_err(|why| problem(key, &format!("{file}: {why}")))
        };
        let metadata = fs::metadata(&self.key);
        if metadata.is_ok_and(|it| it.permissions().mode() & 0o007 != 0) {
            return Err(problem(KEY, &format!("{}: everybody may read or write it", self.key)));
        }
        let authorities = self.authorities.as_ref().map(|file| read(AUTHORITIES, file));
        Ok(Contents {
            certificate: read(CERTIFICATE, &self.certificate)?,
            key: read(KEY, &self.key)?,
            authorities: authorities.transpose()?,
        })
    }

    fn configure(
        &self,
        contents: &Contents,
    ) -> Result<(Arc<ServerConfig>, Option<Arc<ClientConfig>>), Problem> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = certificates(CERTIFICATE, &self.certificate, &contents.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key);
        let key = key.map_err(|why| problem(KEY, &format!("{}: {why}", self.key)))?;
        let unfit = |why: Error| problem(KEY, &format!("{}: {why}", self.key));
        let versions = "this library has TLS 1.2 and 1.3";

        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect(versions);
        let (Some(file), Some(authorities)) = (&self.authorities, &contents.authorities) else {
            let server = server.with_no_client_auth().with_single_cert(chain, key);
            return Ok((Arc::new(server.map_err(unfit)?), None));
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(AUTHORITIES, file, authorities)? {
            let added = roots.add(certificate);
            added.map_err(|why| problem(AUTHORITIES, &format!("{file}: {why}")))?;
        }
        let roots = Arc::new(roots);
        // Phones need none; one that is shown is to be good.
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(|why| problem(AUTHORITIES, &format!("{file}: {why}")))?;
        let server = server
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(unfit)?;
        let inner = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|why| problem(AUTHORITIES, &format!("{file}: {why}")))?;
        let verifier = Arc::new(Domains { inner, domains: self.domains.clone() });
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect(versions)
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(chain, key)
            .map_err(unfit)?;
        Ok((Arc::new(server), Some(Arc::new(client))))
    }
}

fn certificates(
    key: &'static str,
    file: &str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(problem(key, &format!("{file}: holds no certificate"))),
        Err(why) => Err(problem(key, &format!("{file}: {why}"))),
    }
}

fn problem(key: &'static str, reason: &str) -> Problem {
    Problem { key, reason: reason.to_owned() }
}

/// The domains that a verified certificate names: those of its `sip:` URIs, and if there are none its DNS
/// names (RFC 5922 §7.1).
pub(super) fn names(chain: Option<&[CertificateDer<'_>]>) -> Vec<String> {
    let Some(certificate) = chain.and_then(<[_]>::first) else { return vec![] };
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else { return vec![] };
    // A URI with a user names a person.
    let domain = |uri: &str| match uri.split_once(':') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("sip") && !rest.contains('@') => {
            Some(rest.split([';', '?', ':']).next()?.to_owned())
        }
        Some(_) | None => None,
    };
    let uris: Vec<_> = certificate.valid_uri_names().filter_map(domain).collect();
    if uris.is_empty() { certificate.valid_dns_names().map(str::to_owned).collect() } else { uris }
}

/// Accepts at the other end of our connections who has a good certificate for the address that was called
/// or for one of these domains: no name was looked up that it could be held against.
#[derive(Debug)]
struct Domains {
    inner: Arc<WebPkiServerVerifier>,
    domains: Vec<ServerName<'static>>,
}

impl ServerCertVerifier for Domains {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        called: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verify =
            |name| self.inner.verify_server_cert(end_entity, intermediates, name, ocsp, now);
        let first = verify(called);
        if first.is_ok() {
            return first;
        }
        self.domains.iter().find_map(|name| verify(name).ok()).map_or(first, Ok)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

const CERTIFICATE: &str = "sip.tls_certificate";
const KEY: &str = "sip.tls_key";
const AUTHORITIES: &str = "sip.tls_client_ca";
const DOMAINS: &str = "sip.trusted_domains";

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use rcgen::{CertificateParams, IsCa, Issuer, KeyPair, SanType};
    use tokio::io::duplex;

    use super::*;
    use crate::config::{Config, Parsed};

    /// A folder of its own with an authority, and certificates of that.
    struct Site {
        dir: PathBuf,
        issuer: Issuer<'static, KeyPair>,
    }

    impl Site {
        fn new(name: &str) -> Self {
            let dir =
                std::env::temp_dir().join(format!("cusaxd-tls-{name}-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            let mut params = CertificateParams::new(vec![]).unwrap();
            params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let key = KeyPair::generate().unwrap();
            fs::write(dir.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
            Self { dir, issuer: Issuer::new(params, key) }
        }

        /// Writes `NAME.pem` and `NAME.key` for these names.
        fn certify(&self, name: &str, dns: &[&str], uris: &[&str]) {
            let dns: Vec<_> = dns.iter().map(|name| (*name).to_owned()).collect();
            let mut params = CertificateParams::new(dns).unwrap();
            let uris = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap()));
            params.subject_alt_names.extend(uris);
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &self.issuer).unwrap();
            fs::write(self.file(name, "pem"), certificate.pem()).unwrap();
            let file = self.file(name, "key");
            fs::write(&file, key.serialize_pem()).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        }

        fn file(&self, name: &str, end: &str) -> PathBuf {
            self.dir.join(format!("{name}.{end}"))
        }

        /// The configuration of somebody with that certificate.
        fn config(&self, name: &str, authority: Option<&Path>, domains: &[&str]) -> Sip {
            let text = "[xmpp]\ndomain='r'\nsecret='s'\n[sip]\ndomain='c'\n";
            let config = config::Config::builder()
                .add_source(config::File::from_str(text, config::FileFormat::Toml));
            let config: Config = config.build().unwrap().try_deserialize().unwrap();
            let text = |path: PathBuf| Some(path.display().to_string());
            Sip {
                listen: vec![Parsed("tls:127.0.0.1:5061".parse().unwrap())],
                tls_certificate: text(self.file(name, "pem")),
                tls_key: text(self.file(name, "key")),
                tls_client_ca: authority.and_then(|path| text(path.to_owned())),
                trusted_domains: domains.iter().map(|name| (*name).to_owned()).collect(),
                ..config.sip
            }
        }

        fn load(&self, name: &str, authority: bool, domains: &[&str]) -> Tls {
            let ca = self.dir.join("ca.pem");
            let ca = authority.then_some(ca.as_path());
            Tls::load(&self.config(name, ca, domains)).unwrap().unwrap()
        }
    }

    impl Drop for Site {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }

    /// Whom the server sees, and whom the client, or why not; the client calls an address.
    async fn meet(server: &Tls, client: &Tls) -> Result<(Vec<String>, Vec<String>), String> {
        let (ours, theirs) = duplex(64 * 1024);
        let acceptor = server.acceptor();
        let connector = client.connector().expect("it has authorities");
        let address = std::net::IpAddr::from([192, 0, 2, 1]);
        let (accepted, connected) =
            tokio::join!(acceptor.accept(ours), connector.connect(address.into(), theirs));
        let connected = connected.map_err(|why| why.to_string())?;
        let accepted = accepted.map_err(|why| why.to_string())?;
        let seen = names(accepted.get_ref().1.peer_certificates());
        Ok((seen, names(connected.get_ref().1.peer_certificates())))
    }

    #[tokio::test]
    async fn both_ends_prove_their_domains() {
        let site = Site::new("both");
        site.certify("focus", &["conf.example.org"], &[]);
        let uris = ["sip:example.org", "sip:bob@example.net", "https://example.com"];
        site.certify("proxy", &["proxy.example.org"], &uris);
        let focus = site.load("focus", true, &["example.org"]);
        let proxy = site.load("proxy", true, &["conf.example.org"]);
        let met = meet(&focus, &proxy).await.unwrap();
        // The URI counts alone, and neither a person nor a web site (RFC 5922 §7.1).
        assert_eq!(met, (vec!["example.org".to_owned()], vec!["conf.example.org".to_owned()]));
        // A server whose name nobody expects is not talked to.
        let wary = site.load("proxy", true, &["other.example.org"]);
        assert!(meet(&focus, &wary).await.is_err());
    }

    #[tokio::test]
    async fn a_certificate_of_an_unknown_authority_is_worth_less_than_none() {
        let (site, other) = (Site::new("known"), Site::new("unknown"));
        site.certify("focus", &["conf.example.org"], &[]);
        other.certify("proxy", &["proxy.example.org"], &[]);
        let focus = site.load("focus", true, &["proxy.example.org"]);
        let mut liar = other.config("proxy", None, &["conf.example.org"]);
        liar.tls_client_ca = Some(site.dir.join("ca.pem").display().to_string());
        let liar = Tls::load(&liar).unwrap().unwrap();
        let (ours, theirs) = duplex(64 * 1024);
        let (acceptor, connector) = (focus.acceptor(), liar.connector().unwrap());
        let address = std::net::IpAddr::from([192, 0, 2, 1]);
        let (accepted, _) =
            tokio::join!(acceptor.accept(ours), connector.connect(address.into(), theirs));
        assert!(accepted.is_err(), "an unknown authority was believed");
        // Without authorities nobody is asked, and we call nobody.
        let plain = site.load("focus", false, &[]);
        assert!(plain.connector().is_none());
        let caller = site.load("focus", true, &["conf.example.org"]);
        assert_eq!(meet(&plain, &caller).await.unwrap().0, Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_new_certificate_counts_from_the_next_connection_on() {
        let site = Site::new("renewed");
        site.certify("focus", &["old.example.org"], &[]);
        site.certify("caller", &["caller.example.org"], &[]);
        let focus = site.load("focus", true, &[]);
        let caller = site.load("caller", true, &["old.example.org", "new.example.org"]);
        let shown = async || meet(&focus, &caller).await.unwrap().1;
        assert_eq!(shown().await, ["old.example.org"]);
        assert_eq!(focus.reload(), Ok(false));
        // Half of a pair is told once, and changes nothing.
        let key = fs::read(site.file("focus", "key")).unwrap();
        site.certify("focus", &["new.example.org"], &[]);
        let new_key = fs::read(site.file("focus", "key")).unwrap();
        fs::write(site.file("focus", "key"), key).unwrap();
        assert_eq!(focus.reload().unwrap_err().key, KEY);
        assert_eq!(focus.reload(), Ok(false));
        assert_eq!(shown().await, ["old.example.org"]);
        fs::write(site.file("focus", "key"), new_key).unwrap();
        assert_eq!(focus.reload(), Ok(true));
        assert_eq!(shown().await, ["new.example.org"]);
    }

    #[test]
    fn what_cannot_be_used_is_told_by_its_key() {
        let site = Site::new("bad");
        site.certify("focus", &["conf.example.org"], &[]);
        site.certify("other", &["other.example.org"], &[]);
        let check = |key: &str, reason: &str, change: &dyn Fn(&mut Sip)| {
            let mut sip = site.config("focus", Some(&site.dir.join("ca.pem")), &[]);
            change(&mut sip);
            let problem = Tls::load(&sip).unwrap_err();
            assert_eq!(problem.key, key);
            assert!(problem.reason.contains(reason), "{problem}");
        };
        let text = |name: &str, end: &str| Some(site.file(name, end).display().to_string());
        check(CERTIFICATE, "No such file", &|sip| sip.tls_certificate = text("none", "pem"));
        check(CERTIFICATE, "no certificate", &|sip| sip.tls_certificate = text("focus", "key"));
        check(KEY, "No such file", &|sip| sip.tls_key = text("none", "key"));
        check(KEY, "focus.pem", &|sip| sip.tls_key = text("focus", "pem"));
        check(KEY, "other.key", &|sip| sip.tls_key = text("other", "key"));
        check(AUTHORITIES, "No such file", &|sip| sip.tls_client_ca = text("none", "pem"));
        check(AUTHORITIES, "no certificate", &|sip| sip.tls_client_ca = text("focus", "key"));
        let open = fs::Permissions::from_mode(0o644);
        fs::set_permissions(site.file("other", "key"), open).unwrap();
        check(KEY, "everybody may read", &|sip| sip.tls_key = text("other", "key"));
    }
}
