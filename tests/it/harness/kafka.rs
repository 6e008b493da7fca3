//! Apache Kafka brokers as direct children of the test: one process, broker and controller at once (KRaft).
//!
//! Most tests share one broker per test process ([`shared`]) and keep apart by topic names; who crashes
//! brokers starts one of its own. Records are read by librdkafka's consumer with `read_committed`, never
//! counted by offsets: offsets count the markers of transactions, too.

use super::ports::Port;
use super::{places, until};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

/// Raised with each change of what a template holds.
const TEMPLATE_FORMAT: u32 = 1;
/// A broker that answers nothing in this time is broken, on a slow and busy machine, too.
const START_WITHIN: Duration = Duration::from_secs(60);
const ASK: Duration = Duration::from_secs(5);

/// A broker. Dropping it kills it.
pub(crate) struct Broker {
    dir: PathBuf,
    port: Port,
    controller: Port,
    child: Option<Child>,
    /// Properties over the usual ones.
    pub(super) more: String,
}

/// What a test is interested in of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Record {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
}

/// The broker that the tests of this process share.
pub(crate) fn shared() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    BROKER.get_or_init(|| {
        let (send, receive) = mpsc::channel();
        // A child dies with the thread that started it: this one lives as long as the process.
        std::thread::spawn(move || {
            let dir = std::env::temp_dir().join(format!("strandline-kafka-{}", places::uid()));
            remove_leftovers(&dir);
            send.send(Broker::start(&dir.join(std::process::id().to_string()))).expect("it is waited for");
            loop {
                std::thread::park();
            }
        });
        receive.recv().expect("the broker starts")
    })
}

/// A killed test process leaves its directory behind.
fn remove_leftovers(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if !Path::new("/proc").join(entry.file_name()).exists() {
            // Another process may be at it, too.
            let _removed_by_either = std::fs::remove_dir_all(entry.path());
        }
    }
}

impl Broker {
    /// Starts a broker on a copy of the template, in `dir`.
    pub(crate) fn start(dir: &Path) -> Broker {
        std::fs::create_dir_all(dir).expect("the run directory can be written");
        super::postgres::copy(&template(), &dir.join("data"));
        let mut broker = Broker::unformatted(dir);
        broker.restart();
        broker
    }

    /// Without data yet.
    pub(super) fn unformatted(dir: &Path) -> Broker {
        let (port, controller) = (Port::take(), Port::take());
        Broker { dir: dir.to_owned(), port, controller, child: None, more: String::new() }
    }

    /// The broker's own, and the controller's.
    pub(super) fn ports(&self) -> (u16, u16) {
        (self.port.number(), self.controller.number())
    }

    pub(super) fn properties(&self) -> String {
        properties_text(self.port.number(), self.controller.number(), &self.dir.join("data")) + &self.more
    }

    /// Starts the stopped or crashed broker again, on its old port.
    pub(crate) fn restart(&mut self) {
        assert!(self.child.is_none(), "the broker runs already");
        let properties = self.dir.join("server.properties");
        std::fs::write(&properties, self.properties()).expect("the run directory can be written");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("broker.log"))
            .expect("the log can be written");
        let mut command = java();
        command.arg("kafka.Kafka").arg(&properties).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        self.child = Some(command.spawn().expect("java starts"));
        until(START_WITHIN, "Kafka answers", || {
            if let Some(child) = &mut self.child
                && let Ok(Some(status)) = child.try_wait()
            {
                panic!("Kafka ended ({status}); see {}", self.dir.join("broker.log").display());
            }
            let asked: Result<BaseConsumer, _> = self.client().set("log_level", "0").create();
            asked.is_ok_and(|client| client.fetch_metadata(None, Duration::from_millis(500)).is_ok())
        });
    }

    /// Starts it unless it runs.
    pub(crate) fn restart_if_down(&mut self) {
        if self.child.is_none() {
            self.restart();
        }
    }

    /// kill -9.
    pub(crate) fn crash(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        child.kill().expect("it can be killed");
        child.wait().expect("it can be waited for");
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address()).set("reconnect.backoff.max.ms", "200");
        config
    }

    /// Makes a topic.
    pub(crate) fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("an admin client");
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let made = runtime.block_on(admin.create_topics([&topic], &AdminOptions::new()));
        assert!(made.expect("the broker answers")[0].is_ok(), "cannot make {name}");
    }

    /// Changes a topic's setting; all others are the defaults then.
    pub(crate) fn set_topic(&self, name: &str, key: &str, value: &str) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("an admin client");
        let change = AlterConfig::new(ResourceSpecifier::Topic(name)).set(key, value);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let changed = runtime.block_on(admin.alter_configs([&change], &AdminOptions::new()));
        assert!(changed.expect("the broker answers")[0].is_ok(), "cannot change {name}");
    }

    /// How many partitions a topic has, and one of its settings.
    pub(crate) fn topic(&self, name: &str, setting: &str) -> (usize, Option<String>) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("an admin client");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let asked = [&ResourceSpecifier::Topic(name)];
        let found = runtime.block_on(admin.describe_configs(asked, &AdminOptions::new()));
        let config = found.expect("the broker answers").remove(0).expect("the topic is there");
        let metadata = admin.inner().fetch_metadata(Some(name), ASK).expect("the broker answers");
        let value = config.get(setting).and_then(|entry| entry.value.clone());
        (metadata.topics()[0].partitions().len(), value)
    }

    /// Names of all topics but the broker's own.
    pub(crate) fn topics(&self) -> Vec<String> {
        let client: BaseConsumer = self.client().create().expect("a client");
        let metadata = client.fetch_metadata(None, ASK).expect("the broker answers");
        let own = |name: &&str| matches!(*name, "__transaction_state" | "__consumer_offsets");
        metadata.topics().iter().map(|t| t.name()).filter(|name| !own(name)).map(str::to_owned).collect()
    }

    /// A reader of everything in these topics, from their beginning.
    pub(crate) fn reader(&self, topics: &[&str]) -> Reader {
        let consumer: BaseConsumer = self
            .client()
            .set("group.id", "harness")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "false")
            .set("fetch.wait.max.ms", "50")
            .create()
            .expect("a consumer");
        let mut all = TopicPartitionList::new();
        for topic in topics {
            let metadata = consumer.fetch_metadata(Some(topic), ASK).expect("the broker answers");
            for partition in metadata.topics()[0].partitions() {
                all.add_partition_offset(topic, partition.id(), Offset::Beginning).expect("an offset");
            }
        }
        consumer.assign(&all).expect("they can be assigned");
        // A consumer that reads committed records only is told the end of these.
        let mut all = self.client();
        all.set("group.id", "harness").set("isolation.level", "read_uncommitted");
        Reader { consumer, ends: all.create().expect("a consumer") }
    }

    /// The ends of a topic's first partition: up to the first open transaction, and of everything.
    pub(crate) fn ends(&self, topic: &str) -> (i64, i64) {
        let end = |level: &str| {
            let client: BaseConsumer =
                self.client().set("isolation.level", level).create().expect("a client");
            client.fetch_watermarks(topic, 0, ASK).expect("the broker answers").1
        };
        (end("read_committed"), end("read_uncommitted"))
    }

    /// Everything that is committed in these topics, up to their ends as they are now.
    #[track_caller]
    pub(crate) fn read_all(&self, topics: &[&str]) -> Vec<Record> {
        self.reader(topics).rest()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.crash();
    }
}

/// Reads on and on.
pub(crate) struct Reader {
    consumer: BaseConsumer,
    ends: BaseConsumer,
}

impl Reader {
    /// The next record, if one comes in this time.
    pub(crate) fn next(&mut self, within: Duration) -> Option<Record> {
        let deadline = Instant::now() + within;
        loop {
            // An error: the broker is down, or comes back.
            if let Some(Ok(message)) = self.consumer.poll(deadline.saturating_duration_since(Instant::now()))
            {
                let text = |bytes: Option<&[u8]>| bytes.map(shown);
                let headers = message.headers().map_or_else(Vec::new, |headers| {
                    headers.iter().map(|h| (h.key.to_owned(), text(h.value).unwrap_or_default())).collect()
                });
                return Some(Record {
                    topic: message.topic().to_owned(),
                    partition: message.partition(),
                    offset: message.offset(),
                    key: text(message.key()),
                    value: text(message.payload()),
                    headers,
                });
            }
            if Instant::now() >= deadline {
                return None;
            }
        }
    }

    /// Everything up to the ends as they are now. Waits for open transactions: somebody must end them.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Vec<Record> {
        let ends = self.ends_by(&self.ends);
        self.up_to(&ends)
    }

    /// Everything that is committed now, up to the first transaction that is open: what a producer that was killed has
    /// left open ends with its successor only, or minutes later.
    #[track_caller]
    pub(crate) fn committed(&mut self) -> Vec<Record> {
        let ends = self.ends_by(&self.consumer);
        self.up_to(&ends)
    }

    fn ends_by(&self, told: &BaseConsumer) -> Vec<(String, i32, i64)> {
        let assigned = self.consumer.assignment().expect("it is assigned");
        let end_of = |topic: &str, partition| {
            let (_, high) = told.fetch_watermarks(topic, partition, ASK).expect("the broker answers");
            (topic.to_owned(), partition, high)
        };
        assigned.elements().iter().map(|element| end_of(element.topic(), element.partition())).collect()
    }

    #[track_caller]
    fn up_to(&mut self, ends: &[(String, i32, i64)]) -> Vec<Record> {
        let mut records = Vec::new();
        let started = Instant::now();
        loop {
            while let Some(record) = self.next(Duration::from_millis(20)) {
                records.push(record);
            }
            let positions = self.consumer.position().expect("it is assigned");
            let is_there = |(topic, partition, end): &(String, i32, i64)| {
                let found = positions.find_partition(topic, *partition).map(|p| p.offset());
                *end == 0 || matches!(found, Some(Offset::Offset(at)) if at >= *end)
            };
            if ends.iter().all(is_there) {
                return records;
            }
            assert!(started.elapsed() < super::LONG, "the end is not reached: {positions:?}, {ends:?}");
        }
    }
}

pub(super) fn java() -> Command {
    let libs = places::cache().join("servers/kafka/libs");
    assert!(libs.exists(), "no Kafka in {}: run scripts/install.sh kafka", libs.display());
    let mut command = places::dies_with_us(Path::new("java"));
    command.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    command.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn").arg("-cp").arg(libs.join("*"));
    command
}

/// Text as it is; framed Avro begins with a zero.
fn shown(bytes: &[u8]) -> String {
    match String::from_utf8(bytes.to_vec()) {
        Ok(text) if !text.starts_with('\0') => text,
        _ => format!("hex:{}", bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()),
    }
}

/// The short session makes a killed broker come back in 3 s instead of 13. One partition for each of the
/// broker's own topics: the default of 50 makes the first transaction slow. Topics are made by whoever asks for them
/// (Kafka's default): ours must not be.
fn properties_text(port: u16, controller: u16, data: &Path) -> String {
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={}
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=1000
broker.heartbeat.interval.ms=200
log.cleaner.dedupe.buffer.size=4194304
",
        data.display()
    )
}

/// The formatted data directory that brokers start on a copy of.
fn template() -> PathBuf {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let base = places::cache().join("templates");
    std::fs::create_dir_all(&base).expect("the cache can be written");
    let stamp = places::cache().join("servers/kafka/.stamp");
    let version = std::fs::read_to_string(stamp).unwrap_or_default();
    let name = format!("kafka-{}-{TEMPLATE_FORMAT}", version.trim());
    let lock = File::create(base.join(format!("{name}.lock"))).expect("the lock file can be written");
    lock.lock().expect("the lock can be taken");
    let ready = base.join(&name);
    if !ready.exists() {
        let building = base.join(format!("{name}.part"));
        if building.exists() {
            std::fs::remove_dir_all(&building).expect("a broken template can be removed");
        }
        std::fs::create_dir_all(&building).expect("the cache can be written");
        let properties = building.join("server.properties");
        std::fs::write(&properties, properties_text(9092, 9093, &building.join("data"))).expect("writable");
        let mut command = java();
        command.args(["kafka.tools.StorageTool", "format", "-t", "AAAAAAAAQACAAAAAAAAAAA", "-c"]);
        let output = command.arg(&properties).output().expect("java runs");
        assert!(output.status.success(), "format: {}", String::from_utf8_lossy(&output.stderr));
        std::fs::rename(&building, &ready).expect("the template can be renamed");
    }
    ready.join("data")
}
