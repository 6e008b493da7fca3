//! What must hold at every moment, by name.

use std::fmt;

macro_rules! invariants {
    ($($variant:ident $id:literal $statement:literal)*) => {
        /// An invariant of the replication. Asserts, simulation checkers and tests cite it.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum InvariantId {
            $(#[doc = $statement] $variant,)*
        }

        impl InvariantId {
            /// All of them.
            pub const ALL: &[InvariantId] = &[$(InvariantId::$variant),*];

            /// Its name, such as `CK-1`.
            pub fn id(self) -> &'static str {
                match self { $(InvariantId::$variant => $id,)* }
            }

            /// What it says.
            pub fn statement(self) -> &'static str {
                match self { $(InvariantId::$variant => $statement,)* }
            }
        }
    };
}

invariants! {
    Ck1 "CK-1" "A position is acknowledged to the source only after every table concerned is durable up to it."
    Ck2 "CK-2" "A commit unit holds whole source transactions."
    Ck3 "CK-3" "Units chain: `from` equals the last durable `to` of that table; overlap is refused, never merged."
    Ck4 "CK-4" "A commit with an older epoch than the table's never becomes visible."
    Ck5 "CK-5" "After recovery the first row applied to a table is beyond its checkpoint."
    Ln1 "LN-1" "A checkpoint is used only against the lineage it was taken from."
    Sc1 "SC-1" "A row is decoded with the schema valid at its own position."
    Sn1 "SN-1" "Snapshot plus stream ends in the same rows as the source has."
    Or1 "OR-1" "Changes of one key are applied in source order."
    Va1 "VA-1" "A value arrives exactly, or the row is refused with a reason; never rounded or clamped."
    Dl1 "DL-1" "Every item ends committed, filtered by a named rule, or dead-lettered and counted."
    Bd1 "BD-1" "Memory, queues, retries and waits have a configured upper bound."
    Ct1 "CT-1" "A cut names, for each table, a version that holds exactly what the source held at the cut's position."
}

impl InvariantId {
    /// Asserts that it holds, in release builds too: a crash is better than a wrong checkpoint.
    pub(crate) fn hold(self, truth: bool, detail: impl FnOnce() -> String) {
        assert!(truth, "{self} broken: {} ({})", self.statement(), detail());
    }
}

impl fmt::Display for InvariantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

/// A deliberate fault of the coordinator, for the simulation to catch. Never set by the product.
#[doc(hidden)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    /// CK-1: acknowledges when a cut is begun, not when it is committed.
    AcknowledgeEarly,
    /// CK-3: a unit begins at the pipeline's position, not at the table's own.
    UnitFromPipeline,
    /// CK-5: lets a table see again what it already holds.
    ForgetTablePosition,
    /// BD-1: closes units without regard to how many are in flight.
    EndlessUnits,
    /// CT-1: a cut names the newest version of each table.
    CutNamesNewest,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut ids: Vec<_> = InvariantId::ALL.iter().map(|i| i.id()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), InvariantId::ALL.len());
    }

    #[test]
    #[should_panic(expected = "CK-1 broken")]
    fn a_broken_invariant_ends_the_process() {
        InvariantId::Ck1.hold(false, || "test".to_owned());
    }
}
