//! Facts from a file: a list of them, `facts: […]`, or what the status of a NamespaceBaseline says.

use ringfence_netpol::api::baseline::Fact;
use ringfence_netpol::facts::Facts;

use crate::Error;
use crate::read::{self, Node, Value};

/// Reads the facts of a file, as every other input is read: with bounds, and with the line of what is wrong.
///
/// # Errors
/// If the file cannot be read, or holds something else.
pub fn read(file: &str, options: &read::Options) -> Result<Facts, Error> {
    let (texts, problems) = read::texts(&[file.to_owned()], options);
    if let Some(problem) = problems.first() {
        return Err(Error::Usage(problem.to_string()));
    }
    let mut facts = Facts::new();
    for (file, text) in &texts {
        let objects =
            read::objects(text).map_err(|(line, reason)| Error::Usage(format!("{file}:{line}: {reason}")))?;
        for object in &objects {
            for fact in listed(object) {
                let fact = typed(file, fact)?;
                facts.insert(fact.name.clone(), fact);
            }
        }
    }
    if facts.is_empty() {
        return Err(Error::Usage(format!(
            "{file}: is neither a list of facts nor a NamespaceBaseline with facts in its status"
        )));
    }
    Ok(facts)
}

/// The facts that a document has, in whichever form.
fn listed(object: &Node) -> &[Node] {
    let list = match &object.value {
        Value::List(_) => Some(object),
        Value::Map(_) if object.get("kind").and_then(Node::text) == Some("NamespaceBaseline") => {
            object.get("status").and_then(|status| status.get("facts"))
        }
        Value::Map(_) => object.get("facts"),
        Value::Scalar(_) => None,
    };
    match list.map(|list| &list.value) {
        Some(Value::List(facts)) => facts,
        _ => &[],
    }
}

fn typed(file: &str, node: &Node) -> Result<Fact, Error> {
    serde_path_to_error::deserialize(&node.clone().into_json()).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." {
            String::new()
        } else {
            format!(" {path}:")
        };
        let line = node.line_of(path.trim_start_matches('.'));
        Error::Usage(format!("{file}:{line}:{field} {}", error.into_inner()))
    })
}
