//! A server that is not what it says: it asks for files and for passwords in clear.

use super::login;
use super::options::{MyOptions, Passwords, Patience, TlsMode};
use super::sql::Sql;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SECRET: &str = "a-secret-of-ours";

/// What the rogue does once it knows the client's name.
#[derive(Clone, Copy)]
enum Trick {
    /// Lets it in, and answers each statement with the request for a file.
    AskForFile,
    /// Wants another way to log in.
    Switch(&'static str),
}

fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
    [&length[..3], &[sequence], payload].concat()
}

fn greeting() -> Vec<u8> {
    // Version 10, 41's protocol, secure connection, plug-ins, files: no TLS.
    let mut all = b"\x0a8.0.36\0\x01\0\0\0abcdefgh\0".to_vec();
    all.extend(0xA280_u16.to_le_bytes());
    all.push(45);
    all.extend(2_u16.to_le_bytes());
    all.extend(0x0008_u16.to_le_bytes());
    all.push(21);
    all.extend([0; 10]);
    all.extend(b"ijklmnopqrst\0mysql_native_password\0");
    all
}

fn read_packet(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).ok()?;
    let mut payload = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
    stream.read_exact(&mut payload).ok()?;
    Some((head[3], payload))
}

/// Plays the trick on whoever comes; everything that was received ends up in the list.
fn rogue(trick: Trick, heard: Arc<Mutex<Vec<u8>>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let hear = |stream: &mut TcpStream| {
                let (sequence, payload) = read_packet(stream)?;
                heard.lock().unwrap().extend(&payload);
                Some(sequence.wrapping_add(1))
            };
            let _ended = (|| {
                stream.write_all(&packet(0, &greeting())).ok()?;
                let next = hear(&mut stream)?;
                if let Trick::Switch(plugin) = trick {
                    let ask = [b"\xfe", plugin.as_bytes(), b"\0", b"abcdefghijklmnopqrst\0"].concat();
                    stream.write_all(&packet(next, &ask)).ok()?;
                    hear(&mut stream)?;
                    return None;
                }
                stream.write_all(&packet(next, &[0, 0, 0, 2, 0, 0, 0])).ok()?;
                loop {
                    let next = hear(&mut stream)?;
                    stream.write_all(&packet(next, b"\xfb/etc/passwd")).ok()?;
                }
                #[expect(unreachable_code, reason = "names the closure's type")]
                Some(())
            })();
        }
    });
    port
}

fn options(port: u16) -> MyOptions {
    MyOptions {
        host: "127.0.0.1".into(),
        port,
        user: "strandline".into(),
        passwords: Passwords::new(|| Box::pin(async { Ok(Some(SECRET.to_owned())) })),
        tls: TlsMode::Prefer,
        ca: None,
        identity: None,
        pipeline: "shop".into(),
        connect_timeout: Duration::from_secs(5),
        patience: Patience::default(),
        queries: false,
    }
}

fn holds(heard: &Mutex<Vec<u8>>, what: &[u8]) -> bool {
    heard.lock().unwrap().windows(what.len()).any(|part| part == what)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_for_a_file_gets_none() {
    let heard = Arc::default();
    let options = options(rogue(Trick::AskForFile, Arc::clone(&heard)));
    assert!(Sql::connect(&options).await.is_err(), "it did not answer what it was asked");
    let mut log = login::connect(&options).await.unwrap();
    assert!(login::exec(&mut log, "SET @x = 1").await.is_err());
    assert!(holds(&heard, b"SET @x = 1"), "it was asked something");
    assert!(!holds(&heard, b"root:"), "a file was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_gets_no_password_in_clear() {
    for plugin in ["mysql_clear_password", "mysql_old_password", "dialog"] {
        let heard = Arc::default();
        let options = options(rogue(Trick::Switch(plugin), Arc::clone(&heard)));
        assert!(Sql::connect(&options).await.is_err(), "{plugin}");
        assert!(login::connect(&options).await.is_err(), "{plugin}");
        assert!(holds(&heard, b"strandline"), "it was told who we are");
        assert!(!holds(&heard, SECRET.as_bytes()), "{plugin}: the password was sent in clear");
    }
}
