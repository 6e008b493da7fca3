//! What this process says about itself: logs, metrics, status.
//!
//! Layer 4. Nothing here decides anything. The runtime reports; people and machines read. State is derived
//! from progress: what can be computed from the status board is computed from it, at the moment of reading,
//! so that two views can never disagree.

pub mod health;
pub mod history;
pub mod logging;
pub mod metrics;
pub mod names;
mod process;
pub mod status;

pub use history::History;
pub use metrics::{CommitResult, Metrics, MetricsOptions, Stage, TableMetrics};
pub(crate) use process::cpu_seconds;
pub use status::{Status, StatusBoard};
