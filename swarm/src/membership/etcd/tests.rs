//! What stands in for etcd here answers what it likes; the real one is asked by `cargo xtask foreign etcd-`.

use std::sync::Arc;
use std::time::Duration;

use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::calls::Blob;
use super::gateway::Gateway;
use super::record::{Record, Records};
use super::{Endpoint, Etcd, EtcdError, EtcdOptions};
use crate::forest::NodeName;
use crate::membership::codec::Identity;
use crate::membership::keys::{Keyring, Keys, SwarmKey};
use crate::membership::{Event, Images, Membership as _};

const PATIENCE: Duration = Duration::from_secs(20);

/// Answers each request, of a path and a body, with bytes, and closes the connection if they are no `200 OK` with a length.
async fn serve(answer: impl Fn(&str, &Value) -> Vec<u8> + Send + Sync + 'static) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            tokio::spawn(async move { converse(stream, &*answer).await });
        }
    });
    endpoint.parse().unwrap()
}

async fn converse(mut stream: TcpStream, answer: &(impl Fn(&str, &Value) -> Vec<u8> + Sync)) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        request.extend_from_slice(&buffer[..length]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let Ok(question) = serde_json::from_str(body) else {
            continue;
        };
        let path = head.split(' ').nth(1).unwrap().to_owned();
        request.clear();
        if stream.write_all(&answer(&path, &question)).await.is_err() {
            return;
        }
    }
}

fn ok(answer: &Value) -> Vec<u8> {
    let answer = answer.to_string();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}",
        answer.len()
    )
    .into()
}

/// An answer that goes on.
fn lines(lines: &[Value]) -> Vec<u8> {
    let mut answer = String::from("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    for line in lines {
        let line = format!("{line}\n");
        answer += &format!("{:x}\r\n{line}\r\n", line.len());
    }
    answer.into()
}

async fn connect(endpoint: &Endpoint) -> Gateway {
    Gateway::connect(endpoint, None, None).await.unwrap()
}

async fn call(answer: Vec<u8>) -> EtcdError {
    let endpoint = serve(move |_, _| answer.clone()).await;
    let called = connect(&endpoint)
        .await
        .call::<IgnoredAny>("x", &json!({}))
        .await;
    called.unwrap_err()
}

async fn watch(answer: Vec<u8>) -> EtcdError {
    let endpoint = serve(move |_, _| answer.clone()).await;
    let mut watch = connect(&endpoint).await.watch(b"/m/", 1).await.unwrap();
    loop {
        match watch.next().await {
            Ok(happened) => assert!(happened.is_empty()),
            Err(error) => return error,
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_none_is_an_error_that_says_so() {
    assert!(matches!(
        call(b"SSH-2.0-x\r\n".to_vec()).await,
        EtcdError::Http(_)
    ));
    let nonsense = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{]".to_vec();
    assert!(matches!(call(nonsense).await, EtcdError::Json(_)));
    let long =
        "HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n".to_owned() + &" ".repeat(9_000_000);
    assert!(matches!(call(long.into()).await, EtcdError::TooLong));
    let refusal = json!({"error": format!("no\u{1b}[2J{}", "o".repeat(1000))}).to_string();
    let refusal = format!(
        "HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\n\r\n{refusal}",
        refusal.len()
    );
    let error = call(refusal.into()).await.to_string();
    assert!(
        error.starts_with("etcd refuses with status 404: no[2Jooo") && error.len() < 300,
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn silence_is_no_answer() {
    assert!(matches!(call(Vec::new()).await, EtcdError::TimedOut));
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{".to_vec();
    assert!(matches!(call(half).await, EtcdError::TimedOut));
}

#[tokio::test]
async fn a_watch_ends_with_its_cause() {
    let created = json!({"result": {"header": {"revision": "7"}, "created": true}});
    let compacted = json!({"result": {"canceled": true, "compact_revision": "9"}});
    let error = watch(lines(&[created.clone(), compacted])).await;
    assert!(matches!(error, EtcdError::Compacted(9)), "{error}");
    let error = watch(lines(&[
        created.clone(),
        json!({"result": {"canceled": true}}),
    ]))
    .await;
    assert!(matches!(error, EtcdError::Ended), "{error}");
    let error = watch(lines(&[created, json!({"error": {"message": "x"}})])).await;
    assert!(matches!(error, EtcdError::Json(_)), "{error}");
    let mut endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n989680\r\n".to_vec();
    endless.resize(endless.len() + 10_000_000, b' ');
    let error = watch(endless).await;
    assert!(matches!(error, EtcdError::TooLong), "{error}");
}

fn keys() -> Arc<Keyring> {
    let key = SwarmKey::new(1, *blake3::hash(b"key").as_bytes());
    Keyring::new(Keys::parse(&key.line()).unwrap())
}

/// What etcd holds of a node.
fn held(name: &str) -> Value {
    let name = NodeName::new(name).unwrap();
    let key = format!("/v/members/{name}");
    let line = Records::new(keys()).write(&Record {
        identity: Identity {
            name,
            address: "10.0.0.1:3260".parse().unwrap(),
            born: 1,
            generation: 1,
            draining: false,
            images: Images::Any,
        },
        leaving: false,
    });
    json!({"key": Blob(key.into()), "value": Blob(line.into()), "lease": "5", "mod_revision": "3"})
}

#[tokio::test]
async fn what_was_forgotten_before_it_was_seen_is_read_anew() {
    let lists = std::sync::atomic::AtomicUsize::new(0);
    let endpoint = serve(move |path, _| {
        let begun = lists.load(std::sync::atomic::Ordering::SeqCst);
        match path {
            "/v3/lease/grant" => ok(&json!({"ID": "9", "TTL": "10"})),
            "/v3/lease/keepalive" => ok(&json!({"result": {"ID": "9", "TTL": "10"}})),
            "/v3/kv/txn" => ok(&json!({"succeeded": true})),
            "/v3/kv/range" => {
                lists.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let all = [held("a"), held("b")];
                ok(&json!({"header": {"revision": "7"}, "kvs": all[..(begun + 1).min(2)]}))
            }
            "/v3/watch" if begun < 2 => {
                lines(&[json!({"result": {"canceled": true, "compact_revision": "99"}})])
            }
            "/v3/watch" => lines(&[json!({"result": {"created": true}})]),
            other => panic!("{other}"),
        }
    })
    .await;
    let mut etcd = Etcd::new(EtcdOptions {
        endpoints: vec![endpoint],
        prefix: "/v/".to_owned(),
        login: None,
        tls: None,
        name: NodeName::new("me").unwrap(),
        address: "10.0.0.9:3260".parse().unwrap(),
        keys: keys(),
        remembered: Vec::new(),
    });
    let mut said = Vec::new();
    while said.len() < 3 {
        said.push(match timeout(PATIENCE, etcd.next()).await.unwrap() {
            Event::Is(member) => member.name.to_string(),
            other => format!("{other:?}"),
        });
    }
    assert_eq!(said, ["a", "Joined", "b"]);
}
