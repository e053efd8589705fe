//! An initiator proves itself to targets over TCP, and lets them prove themselves.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use iscsi_initiator::{
    Account, Algorithm, Credentials, Error, Options, Outage, Reconnect, Secret, Session,
    UnusableChap, discover,
};
use iscsi_proto::discovery::TargetRecord;
use iscsi_proto::login::{Admission, Authentication, ChapPolicy, LoginError, Unproven};
use iscsi_proto::session::{SessionEnd, TargetConfig, TargetEvent, TargetSession};
use iscsi_proto::url::IscsiUrl;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const TARGET: &str = "iqn.2025-01.io.vmthunder.test:target";
const DEADLINE: Duration = Duration::from_secs(20);

fn account(name: &str, secret: &str) -> Account {
    Account {
        name: name.to_owned(),
        secret: Secret::new(secret).expect("a secret"),
    }
}

/// What a gate does with those who have proven themselves.
#[derive(Clone)]
enum Then {
    Admit,
    Redirect(String, bool),
}

/// A target that wants "alice" to prove herself and calls itself "disk".
struct Gate {
    address: String,
    /// Everything that initiators sent, one entry per connection.
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Gate {
    async fn open(then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        Self::at(listener, address, then)
    }

    /// Sends everybody back to itself.
    async fn circular() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let then = Then::Redirect(address.clone(), true);
        Self::at(listener, address, then)
    }

    fn at(listener: TcpListener, address: String, then: Then) -> Self {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let listening = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = {
                    let mut heard = listening.lock().expect("no panic");
                    heard.push(Vec::new());
                    heard.len() - 1
                };
                tokio::spawn(guard(stream, then.clone(), Arc::clone(&listening), number));
            }
        });
        Self { address, heard }
    }

    fn url(&self, user: &str) -> IscsiUrl {
        format!("iscsi://{user}{}/{TARGET}/0", self.address)
            .parse()
            .expect("a URL")
    }

    /// The values of CHAP_C that initiators sent.
    fn challenges(&self) -> Vec<String> {
        let heard = self.heard.lock().expect("no panic").concat();
        let text = String::from_utf8_lossy(&heard).into_owned();
        let after = text.split("CHAP_C=").skip(1);
        after
            .map(|rest| rest.split('\0').next().unwrap_or_default().to_owned())
            .collect()
    }

    fn connections(&self) -> usize {
        self.heard.lock().expect("no panic").len()
    }
}

async fn guard(mut stream: TcpStream, then: Then, heard: Arc<Mutex<Vec<Vec<u8>>>>, number: usize) {
    let mut session = TargetSession::new(TargetConfig::default(), Instant::now());
    let mut input = BytesMut::new();
    while stream
        .read_buf(&mut input)
        .await
        .is_ok_and(|length| length > 0)
    {
        if let Some(said) = heard.lock().expect("no panic").get_mut(number) {
            said.extend_from_slice(&input);
        }
        session.handle_bytes(Instant::now(), &mut input);
        while let Some(event) = session.poll_event() {
            act(&mut session, event, &then);
        }
        while let Some(part) = session.poll_transmit() {
            if stream.write_all(&part).await.is_err() {
                return;
            }
        }
        if session.is_closed() {
            return;
        }
    }
}

fn act(session: &mut TargetSession, event: TargetEvent, then: &Then) {
    match event {
        TargetEvent::Login(_) => session.authenticate(Authentication {
            portal_group_tag: 1,
            none: false,
            chap: Some(ChapPolicy {
                accounts: vec![account("alice", "the right secret")],
                mutual: Some(account("disk", "the secret of the disk")),
                algorithms: Algorithm::ALL.to_vec(),
                identifier: 9,
                challenge: vec![9; 16],
            }),
        }),
        TargetEvent::Authenticated { account, .. } => {
            assert_eq!(account.as_deref(), Some("alice"));
            match then {
                Then::Admit => session.admit(Admission {
                    tsih: 1,
                    command_window: 8,
                }),
                Then::Redirect(address, permanent) => session.redirect(address, *permanent),
            }
        }
        TargetEvent::Discover { task, .. } => {
            let record = TargetRecord {
                name: TARGET.parse().expect("a name"),
                addresses: Vec::new(),
            };
            session.answer_discovery(task, &[record]);
        }
        _ => {}
    }
}

fn options(chap: Option<Credentials>) -> Options {
    let name = "iqn.2025-01.io.vmthunder.test:initiator";
    Options {
        chap,
        reconnect: Reconnect {
            first_delay: Duration::from_millis(1),
            longest_delay: Duration::from_millis(1),
            outage: Outage::Deadline(DEADLINE),
        },
        ..Options::new(name.parse().expect("a name"))
    }
}

fn right() -> Credentials {
    Credentials::new(account("alice", "the right secret"))
}

fn mutual(secret: &str) -> Credentials {
    Credentials {
        mutual: Some(account("disk", secret)),
        ..right()
    }
}

async fn connect(url: &IscsiUrl, chap: Option<Credentials>) -> Result<Session, Error> {
    timeout(DEADLINE, Session::connect(url, options(chap)))
        .await
        .expect("in time")
}

#[tokio::test]
async fn who_has_the_secret_gets_in() {
    let gate = Gate::open(Then::Admit).await;
    connect(&gate.url(""), Some(right()))
        .await
        .expect("the right secret");
    for algorithm in Algorithm::ALL {
        let chap = Credentials {
            algorithms: vec![algorithm],
            ..mutual("the secret of the disk")
        };
        connect(&gate.url(""), Some(chap))
            .await
            .expect("both proven");
    }
    let wrong = Credentials::new(account("alice", "the wrong secret"));
    for chap in [None, Some(wrong)] {
        let refused = connect(&gate.url(""), chap).await.map(drop);
        assert!(
            matches!(refused, Err(Error::Refused(status)) if (status.class, status.detail) == (2, 1)),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn a_target_that_cannot_prove_itself_is_left() {
    let gate = Gate::open(Then::Admit).await;
    let left = connect(&gate.url(""), Some(mutual("another secret of a disk"))).await;
    let expected = LoginError::Unproven(Unproven::Credentials).to_string();
    match left.map(drop) {
        Err(Error::Ended(end @ SessionEnd::Login(_))) => {
            assert!(end.to_string().contains(&expected), "{end}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_url_names_the_user() {
    let gate = Gate::open(Then::Admit).await;
    connect(&gate.url("alice%the right secret@"), None)
        .await
        .expect("by URL");
    // The URL wins, and what the target has to prove stays.
    let other = Credentials {
        mutual: Some(account("disk", "the secret of the disk")),
        ..Credentials::new(account("bob", "the secret of bob"))
    };
    connect(&gate.url("alice%the right secret@"), Some(other))
        .await
        .expect("by URL");
    assert_eq!(gate.challenges().len(), 1, "the target had to prove itself");
    // Without a secret the URL means what is configured.
    connect(&gate.url("alice@"), Some(right()))
        .await
        .expect("by options");
    for (user, chap) in [("alice@", None), ("bob@", Some(right()))] {
        let refused = connect(&gate.url(user), chap).await.map(drop);
        assert!(matches!(refused, Err(Error::NoSecret)), "{refused:?}");
    }
    let short = connect(&gate.url("alice%elevenbytes@"), None)
        .await
        .map(drop);
    assert!(matches!(short, Err(Error::Secret(_))), "{short:?}");
    assert_eq!(gate.connections(), 3, "what cannot work is not tried");
}

/// RFC 7143 §9.2.1: one secret must not serve both directions.
#[tokio::test]
async fn one_secret_for_both_directions_is_refused() {
    let gate = Gate::open(Then::Admit).await;
    let refused = connect(&gate.url(""), Some(mutual("the right secret"))).await;
    assert!(matches!(
        refused.map(drop),
        Err(Error::Credentials(UnusableChap::SharedSecret))
    ));
    assert_eq!(gate.connections(), 0);
}

#[tokio::test]
async fn discovery_proves_itself_too() {
    let gate = Gate::open(Then::Admit).await;
    let options = options(Some(mutual("the secret of the disk")));
    let records = timeout(DEADLINE, discover(&gate.address, &options))
        .await
        .expect("in time")
        .expect("records");
    assert_eq!(records.len(), 1);
}

/// RFC 7143 §11.13.5: a redirection after the security negotiation must be followed; the proof is given again there,
/// with a challenge of its own (§9.2.1).
#[tokio::test]
async fn redirections_after_the_proof_are_followed() {
    let goal = Gate::open(Then::Admit).await;
    for permanent in [false, true] {
        let sign = Gate::open(Then::Redirect(goal.address.clone(), permanent)).await;
        let chap = mutual("the secret of the disk");
        connect(&sign.url(""), Some(chap))
            .await
            .expect("on the way");
        assert_eq!(sign.connections(), 1);
    }
    assert_eq!(goal.connections(), 2);
    let challenges = goal.challenges();
    assert_eq!(challenges.len(), 2);
    assert_ne!(challenges[0], challenges[1]);
    assert_eq!(challenges[0].len(), 2 + 64, "32 bytes");
}

#[tokio::test]
async fn redirections_in_a_circle_end() {
    let gate = Gate::circular().await;
    let lost = connect(&gate.url(""), Some(right())).await.map(drop);
    assert!(matches!(lost, Err(Error::TooManyRedirects)), "{lost:?}");
    assert_eq!(gate.connections(), 5, "the first and four more");
}
