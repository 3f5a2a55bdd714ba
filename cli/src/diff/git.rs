//! Files as they were at a revision, read from the repository and not from the working tree.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use crate::Error;

/// The manifests at a revision: path and text.
///
/// # Errors
/// If git is not there, or does not know the revision.
pub fn texts(revision: &str, paths: &[String], limit: u64) -> Result<Vec<(String, String)>, Error> {
    texts_in(None, revision, paths, limit)
}

/// The same for the repository of a folder; `None` is the current one.
pub(super) fn texts_in(
    folder: Option<&Path>,
    revision: &str,
    paths: &[String],
    limit: u64,
) -> Result<Vec<(String, String)>, Error> {
    if revision.starts_with('-') {
        return Err(Error::Usage(format!("{revision:?} is no revision")));
    }
    let git = || {
        let mut command = Command::new("git");
        if let Some(folder) = folder {
            command.current_dir(folder);
        }
        command
    };
    let listed = git()
        .args(["ls-tree", "-r", "-z", "--full-tree", "--name-only", revision])
        .output()
        .map_err(|error| Error::Usage(format!("git cannot be run: {error}")))?;
    if !listed.status.success() {
        let reason = String::from_utf8_lossy(&listed.stderr);
        return Err(Error::Usage(format!("git ls-tree {revision}: {}", reason.trim())));
    }
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let files: Vec<&str> = listed.split('\0').filter(|file| is_wanted(file, paths)).collect();
    contents(git(), revision, &files, limit)
}

/// What the reading of folders would take, below one of the paths.
fn is_wanted(file: &str, paths: &[String]) -> bool {
    let manifest = [".yaml", ".yml", ".json"]
        .iter()
        .any(|extension| file.ends_with(extension));
    let hidden = file.split('/').any(|part| part.starts_with('.'));
    let below = |path: &String| {
        let path = path.trim_start_matches("./").trim_end_matches('/');
        path.is_empty()
            || path == "."
            || file
                .strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    !file.is_empty() && manifest && !hidden && (paths.is_empty() || paths.iter().any(below))
}

/// One process for all files, asked for one after the other.
fn contents(
    mut git: Command,
    revision: &str,
    files: &[&str],
    limit: u64,
) -> Result<Vec<(String, String)>, Error> {
    let failed = |error: std::io::Error| Error::Usage(format!("git cat-file: {error}"));
    let mut process = git
        .args(["cat-file", "--batch"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let asked: String = files.iter().map(|file| format!("{revision}:{file}\n")).collect();
    let (stdin, stdout) = (process.stdin.take(), process.stdout.take());
    let (Some(mut stdin), Some(stdout)) = (stdin, stdout) else {
        return Err(Error::Usage("git cat-file has no pipes".to_owned()));
    };
    // Asking and reading at once, or both would wait with full pipes. What cannot be asked is missed below.
    let asking = thread::spawn(move || stdin.write_all(asked.as_bytes()));
    let mut answers = BufReader::new(stdout);
    let mut texts = Vec::with_capacity(files.len());
    for file in files {
        let mut header = String::new();
        answers.read_line(&mut header).map_err(failed)?;
        let size = header
            .trim_end()
            .rsplit_once(' ')
            .and_then(|(_, size)| size.parse::<u64>().ok());
        let Some(size) = size.filter(|size| *size <= limit) else {
            let reason = if size.is_some() {
                "is larger than --max-file-size allows"
            } else {
                header.trim_end()
            };
            return Err(Error::Usage(format!("{revision}:{file}: {reason}")));
        };
        let mut bytes = Vec::new();
        let read = answers
            .by_ref()
            .take(size + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?; // and a line's end
        if read as u64 != size + 1 {
            return Err(Error::Usage(format!("{revision}:{file}: git ended early")));
        }
        bytes.pop();
        let text = String::from_utf8(bytes)
            .map_err(|_| Error::Usage(format!("{revision}:{file}: is no UTF-8 text")))?;
        texts.push(((*file).to_owned(), text));
    }
    let _ = asking.join(); // all answers are there
    let _ = process.wait(); // as above
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_below_the_paths_are_wanted() {
        let paths = |list: &[&str]| list.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
        assert!(is_wanted("a/b.yaml", &[]));
        assert!(is_wanted("a/b.yaml", &paths(&["x", "./a/"])));
        assert!(is_wanted("a/b.yaml", &paths(&["a/b.yaml"])));
        assert!(is_wanted("a/b.yaml", &paths(&["."])));
        assert!(!is_wanted("ab/c.yaml", &paths(&["a"])));
        assert!(!is_wanted("a/b.txt", &[]));
        assert!(!is_wanted(".github/b.yml", &[]));
    }
}
