//! What is wrong with a baseline, told to whoever applies it.

use super::{MISWRITTEN, finding};
use crate::api::NamespaceBaseline;
use crate::baseline::template::Template;
use crate::cluster::Key;
use crate::finding::{Finding, Mend, Object, Severity};

/// Everything in a baseline that cannot be understood. It is stored all the same, unless the platform team has it weigh more: the generator
/// says it in the baseline's status, and what was rendered before stays.
pub fn judge_baseline(baseline: &NamespaceBaseline) -> Vec<Finding> {
    let name = baseline.metadata.name.as_deref().unwrap_or_default();
    let object = Object::new("NamespaceBaseline", &Key::cluster(name));
    let defects = Template::parse(baseline).err().unwrap_or_default();
    let told = defects.into_iter().map(|defect| Finding {
        severity: Severity::Warn,
        ..finding(
            MISWRITTEN,
            &object,
            defect.field,
            defect.error.to_string(),
            "nothing would be rendered from the baseline: what it made before stays as it is, and new namespaces get none of it",
            Mend::text("correct it and apply it again"),
        )
    });
    told.collect()
}
