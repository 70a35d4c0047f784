//! The audit log: what operators change goes to the log, under the target `audit`, and to a file.

use tracing::info;

use super::lines::Lines;
use crate::admin::audit::Entry;

/// Where entries go.
#[derive(Clone, Debug)]
pub struct Audit(pub(super) Lines);

impl Audit {
    /// Writes down what was asked, and what came of it.
    pub fn record(&self, entry: &Entry) {
        let Entry { by, via, from, operation, args, status, error, .. } = entry;
        let args = serde_json::Value::Object(args.clone());
        let from = from.map(tracing::field::display);
        info!(target: "audit", by, via, from, operation, %args, status, error, "asked");
        self.0.write(entry);
    }
}
