//! From what was named on the command line to texts: folders, files, standard input.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use walkdir::WalkDir;

use super::Problem;

/// What a file in a folder must be called to be read.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// Files by device and inode: one that is met again, by a link for instance, is still one.
type Met = BTreeSet<(u64, u64)>;

/// Hands every text to `take` once, files of a folder in the order of their names; what cannot be read goes to `problem`.
pub fn each_text(
    sources: &[String],
    limit: u64,
    take: &mut dyn FnMut(&str, &str),
    problem: &mut dyn FnMut(Problem),
) {
    let mut met = Met::new();
    for source in sources {
        if source == "-" {
            match bounded(io::stdin().lock(), limit) {
                Ok(text) => take(source, &text),
                Err(reason) => problem(Problem::of_file(source, reason)),
            }
            continue;
        }
        match fs::metadata(source) {
            Err(error) => problem(Problem::of_file(source, error.to_string())),
            Ok(metadata) if metadata.is_dir() => each_in_folder(source, limit, &mut met, take, problem),
            Ok(_) => one(Path::new(source), limit, &mut met, take, problem),
        }
    }
}

fn each_in_folder(
    folder: &str,
    limit: u64,
    met: &mut Met,
    take: &mut dyn FnMut(&str, &str),
    problem: &mut dyn FnMut(Problem),
) {
    // `.git` and the like are none of the user's manifests; the folder itself may be called as it likes.
    let visible = |entry: &walkdir::DirEntry| {
        entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b".")
    };
    let walk = WalkDir::new(folder).follow_links(true).sort_by_file_name();
    for entry in walk.into_iter().filter_entry(visible) {
        match entry {
            Err(error) => {
                let file = error.path().map_or(folder.into(), |path| path.to_string_lossy());
                let reason = match (error.loop_ancestor(), error.io_error()) {
                    (Some(ancestor), _) => format!("a link back to {}", ancestor.display()),
                    (None, Some(error)) => error.to_string(),
                    (None, None) => error.to_string(),
                };
                problem(Problem::of_file(&file, reason));
            }
            Ok(entry) => {
                let extension = entry.path().extension().and_then(|extension| extension.to_str());
                if !entry.file_type().is_dir() && extension.is_some_and(|e| EXTENSIONS.contains(&e)) {
                    one(entry.path(), limit, met, take, problem);
                }
            }
        }
    }
}

fn one(
    path: &Path,
    limit: u64,
    met: &mut Met,
    take: &mut dyn FnMut(&str, &str),
    problem: &mut dyn FnMut(Problem),
) {
    if let Ok(metadata) = fs::metadata(path)
        && metadata.is_file()
        && !met.insert((metadata.dev(), metadata.ino()))
    {
        return;
    }
    let name = path.to_string_lossy();
    match text_of(path, limit) {
        Ok(text) => take(&name, &text),
        Err(reason) => problem(Problem::of_file(&name, reason)),
    }
}

fn text_of(path: &Path, limit: u64) -> Result<String, String> {
    // To open a FIFO would wait for a writer, so the kind is looked at first.
    let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("is no regular file (a FIFO, socket or device); use `-` to read from a pipe".to_owned());
    }
    if metadata.len() > limit {
        return Err(too_large(limit));
    }
    bounded(File::open(path).map_err(|error| error.to_string())?, limit)
}

fn bounded(from: impl Read, limit: u64) -> Result<String, String> {
    let mut bytes = Vec::new();
    from.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > limit {
        return Err(too_large(limit));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..valid]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        format!("is no UTF-8 text (line {line})")
    })
}

fn too_large(limit: u64) -> String {
    format!(
        "is larger than {} MiB; split it, or allow more by --max-file-size",
        limit / (1 << 20)
    )
}
