//! A writer is a set of futures; every request is an await. The scheduler decides when a request takes
//! effect, when its answer arrives, whether it does, and whether anybody is left to hear it.

use crate::rng::Rng;
use crate::source::{Msg, Rows};
use crate::store::{Record, Table, Version};
use crate::world::{Request, World};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use strandline::position::{CommitLsn, ServerPoint};
use strandline::replication::recovery::SlotView;
use strandline::schema::TableId;

pub type Cell = Rc<RefCell<Option<Reply>>>;
pub type Task = Pin<Box<dyn Future<Output = ()>>>;

#[derive(Clone, Debug)]
pub enum Call {
    /// Nothing: answered some time later.
    Nap,
    Info,
    CreateSlot,
    Acquire,
    StartStream(u64),
    Read(u64),
    Acknowledge(u64, CommitLsn),
    EndSession(u64),
    /// Whether a session of ours still lives.
    Ping(u64),
    OpenSnapshot,
    Copy {
        session: u64,
        table: TableId,
        keys: std::ops::Range<u8>,
    },
    ReadTable(TableId),
    PutTable {
        table: TableId,
        at: i64,
        version: Rc<Version>,
    },
    ReadControl,
    PutControl {
        at: usize,
        record: Rc<Record>,
    },
}

impl Call {
    /// Goes to the target: its reply may get lost.
    pub fn is_target(&self) -> bool {
        matches!(
            self,
            Call::ReadTable(_) | Call::PutTable { .. } | Call::ReadControl | Call::PutControl { .. }
        )
    }

    /// May take effect after its writer is gone.
    pub fn is_put(&self) -> bool {
        matches!(self, Call::PutTable { .. } | Call::PutControl { .. })
    }
}

#[derive(Clone)]
pub enum Reply {
    /// The outcome is unknown.
    Unknown,
    Done,
    Info(ServerPoint, Option<SlotView>),
    Session(Option<Option<u64>>),
    Stream(Option<CommitLsn>),
    Messages(Option<Vec<Msg>>),
    Alive(bool),
    Snapshot(u64, CommitLsn),
    Rows(Option<(usize, Rows)>),
    Table(Table),
    Put(bool),
    Control(Vec<Rc<Record>>),
}

/// A queue within a writer.
pub struct Queue<T>(Rc<RefCell<(VecDeque<T>, bool)>>);

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Queue(Rc::clone(&self.0))
    }
}

impl<T> Queue<T> {
    pub fn new() -> Self {
        Queue(Rc::new(RefCell::new((VecDeque::new(), false))))
    }

    pub fn push(&self, item: T) {
        self.0.borrow_mut().0.push_back(item);
    }

    /// Drops what waits; the reader ends.
    pub fn close(&self) {
        let mut queue = self.0.borrow_mut();
        queue.0.clear();
        queue.1 = true;
    }

    /// Any item: for what may be done in any order.
    pub async fn pop_any(&self, ctx: &Ctx) -> Option<T> {
        std::future::poll_fn(|_| {
            let mut queue = self.0.borrow_mut();
            let waiting = queue.0.len();
            if waiting == 0 {
                return if queue.1 { Poll::Ready(None) } else { Poll::Pending };
            }
            let index = ctx.rng(|rng| rng.below(waiting as u64)) as usize;
            Poll::Ready(queue.0.remove(index))
        })
        .await
    }

    /// The next item; `None` when closed.
    pub async fn pop(&self) -> Option<T> {
        std::future::poll_fn(|_| {
            let mut queue = self.0.borrow_mut();
            match queue.0.pop_front() {
                Some(item) => Poll::Ready(Some(item)),
                None if queue.1 => Poll::Ready(None),
                None => Poll::Pending,
            }
        })
        .await
    }
}

/// A writer's way to the world.
#[derive(Clone)]
pub struct Ctx {
    pub id: usize,
    pub world: Rc<RefCell<World>>,
    spawned: Rc<RefCell<Vec<Task>>>,
}

impl Ctx {
    pub async fn call(&self, call: Call) -> Reply {
        let cell: Cell = Rc::default();
        {
            let mut world = self.world.borrow_mut();
            let request =
                Request { writer: self.id, call, reply: None, cell: Rc::clone(&cell), orphan: false };
            world.requests.push(request);
        }
        std::future::poll_fn(|_| cell.borrow_mut().take().map_or(Poll::Pending, Poll::Ready)).await
    }

    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.spawned.borrow_mut().push(Box::pin(task));
    }

    pub fn log(&self, text: impl FnOnce() -> String) {
        self.world.borrow().log(|| format!("w{} {}", self.id, text()));
    }

    pub fn random(&self) -> u64 {
        self.world.borrow_mut().rng.next()
    }

    pub fn rng<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.world.borrow_mut().rng)
    }
}

/// A writer process: its tasks.
pub struct Process {
    pub asleep: bool,
    tasks: Vec<Task>,
    spawned: Rc<RefCell<Vec<Task>>>,
}

impl Process {
    /// Starts a process whose first task is made by `main`.
    pub fn start<F>(id: usize, world: Rc<RefCell<World>>, main: impl FnOnce(Ctx) -> F) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        let spawned: Rc<RefCell<Vec<Task>>> = Rc::default();
        let ctx = Ctx { id, world, spawned: Rc::clone(&spawned) };
        let mut process = Process { asleep: false, tasks: vec![Box::pin(main(ctx))], spawned };
        process.run();
        process
    }

    /// Polls until nothing moves without an answer from outside. The first task ends the process.
    pub fn run(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        // Queues have no wakers: a few rounds let what one task pushed reach the others.
        for _ in 0..4 {
            let mut index = 0;
            while index < self.tasks.len() {
                if self.tasks[index].as_mut().poll(&mut context).is_ready() {
                    if index == 0 {
                        self.kill();
                        return false;
                    }
                    drop(self.tasks.remove(index));
                } else {
                    index += 1;
                }
            }
            self.tasks.append(&mut self.spawned.borrow_mut());
        }
        true
    }

    pub fn kill(&mut self) {
        self.tasks.clear();
        // Tasks hold the way to this list: left here they would hold each other.
        let spawned = std::mem::take(&mut *self.spawned.borrow_mut());
        drop(spawned);
    }

    pub fn is_running(&self) -> bool {
        !self.tasks.is_empty()
    }
}
