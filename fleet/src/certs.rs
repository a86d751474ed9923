//! `fleetwire certs issue`

use std::path::Path;

use fleetwire_endpoint::pki::{self, Pki};
use time::format_description::well_known::Rfc3339;
use time::macros::{format_description, time};
use time::{Date, OffsetDateTime};

use crate::arguments::{CertsIssueArguments, KeyType};
use crate::identities::{for_each_place, in_directory};
use crate::problem::{Exit, Problem};
use crate::scenario::{COMMON_NAME_CHARS_MAX, is_file_name};
use crate::template::Template;
use crate::text::{counted, first_few};

/// Issues identities; answers what to print.
pub(crate) fn issue(arguments: &CertsIssueArguments) -> Result<String, Problem> {
    let client_ids = client_ids(arguments)?;
    let not_after = arguments.not_after.as_deref().map(end_of_validity).transpose()?;
    refuse_to_replace_the_ca(arguments, &client_ids)?;
    if !arguments.force {
        refuse_existing(&arguments.out, &client_ids)?;
    }
    let pki = Pki::load_or_create::<&str>(&arguments.state, [])
        .map_err(|error| problem(&error, error.to_string()))?;
    for note in not_after.map(|end| notes(end, &pki)).unwrap_or_default() {
        crate::tell(note);
    }
    let key_type = match arguments.key_type {
        KeyType::P256 => pki::KeyType::P256,
        KeyType::Rsa2048 => pki::KeyType::Rsa2048,
    };
    let issue = |place: usize| {
        let device = pki.issue_device(&client_ids[place], key_type, not_after)?;
        device.write(&arguments.out, arguments.force)
    };
    let written = for_each_place(client_ids.len(), issue).map_err(|errors| {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        match errors.first() {
            Some(first) => problem(first, first_few(&texts)),
            None => Problem::failed("no identity could be made."),
        }
    })?;
    Ok(format!(
        "Wrote {} to {}: certificate and key each, signed by {}.",
        counted(written.len() as u64, "identity", "identities"),
        arguments.out.display(),
        arguments.state.join("ca.crt").display()
    ))
}

/// What went wrong decides the exit code: the command line, the files there are, or the work itself.
fn problem(error: &pki::PkiError, text: String) -> Problem {
    use pki::PkiError;
    match error {
        PkiError::CommonName { .. } | PkiError::FileName { .. } => {
            Problem::usage(format!("--client-id: {text}"))
        }
        PkiError::NotAfter => Problem::usage(format!("--not-after: {text}")),
        PkiError::Generate(_) => Problem::failed(format!("{text}.")),
        PkiError::Exists { .. } => Problem::refused("files_exist", format!("{text}.")),
        _ => Problem::refused("files", format!("{text}.")),
    }
}

/// What is worth saying about the end that was asked for.
fn notes(not_after: OffsetDateTime, pki: &Pki) -> Vec<String> {
    let mut notes = Vec::new();
    if not_after <= OffsetDateTime::now_utc() {
        notes.push("note: --not-after has passed: servers will refuse these certificates".to_owned());
    }
    if let Some(ca_end) = pki.ca_not_after().filter(|ca_end| not_after > *ca_end) {
        notes.push(format!(
            "note: --not-after lies behind the end of the CA, {}: from then on servers refuse these certificates",
            ca_end.date()
        ));
    }
    notes
}

/// Issues identities and prints how many.
pub(crate) fn run(arguments: &CertsIssueArguments) -> Result<Exit, Problem> {
    crate::print_line(&issue(arguments)?)?;
    Ok(Exit::Done)
}

fn client_ids(arguments: &CertsIssueArguments) -> Result<Vec<String>, Problem> {
    let pattern = &arguments.client_id;
    let template = Template::parse_client_id(pattern)
        .map_err(|error| Problem::usage(format!("--client-id {pattern}: {error}")))?;
    if arguments.count > 1 && !template.varies() {
        return Err(Problem::usage(format!(
            "--client-id {pattern} names one file, but --count is {}: put {{index}} into it",
            arguments.count
        )));
    }
    let ids: Vec<String> = (0..u64::from(arguments.count))
        .map(|place| template.render_client_id(arguments.index_from + place))
        .collect();
    if let Some(id) = ids.iter().find(|id| id.is_empty() || !is_file_name(id)) {
        return Err(Problem::usage(format!(
            "--client-id: {id:?} cannot be a file name; leave out `/`, `\\`, control characters and a leading dot"
        )));
    }
    match ids.iter().find(|id| id.chars().count() > COMMON_NAME_CHARS_MAX) {
        Some(id) => Err(Problem::usage(format!(
            "--client-id: {id} has more than the {COMMON_NAME_CHARS_MAX} characters that a certificate's common name holds"
        ))),
        None => Ok(ids),
    }
}

/// `ca.crt` and `server.crt` of the state directory are no devices' files, whatever is forced.
fn refuse_to_replace_the_ca(arguments: &CertsIssueArguments, client_ids: &[String]) -> Result<(), Problem> {
    let place = |path: &Path| {
        path.canonicalize()
            .or_else(|_| std::path::absolute(path))
            .unwrap_or_else(|_| path.to_owned())
    };
    let taken = client_ids.iter().find(|id| {
        ["ca", "server"]
            .iter()
            .any(|taken| id.eq_ignore_ascii_case(taken))
    });
    match taken {
        Some(id) if place(&arguments.out) == place(&arguments.state) => Err(Problem::usage(format!(
            "--client-id {id}: {id}.crt and {id}.key in {} are those of the CA or of the server; use another --out",
            arguments.state.display()
        ))),
        _ => Ok(()),
    }
}

/// The end of a day, or a moment.
fn end_of_validity(text: &str) -> Result<OffsetDateTime, Problem> {
    if let Ok(moment) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(moment);
    }
    Date::parse(text, format_description!("[year]-[month]-[day]"))
        .map(|day| day.with_time(time!(23:59:59)).assume_utc())
        .map_err(|_| {
            Problem::usage(format!(
                "--not-after {text}: write 2027-01-31 or 2027-01-31T12:00:00Z"
            ))
        })
}

/// Looks for all files before the first is written, so that a refusal changes nothing.
fn refuse_existing(out: &Path, client_ids: &[String]) -> Result<(), Problem> {
    let existing: Vec<String> = client_ids
        .iter()
        .flat_map(|id| <[_; 2]>::from(in_directory(out, id)))
        .filter(|path| path.symlink_metadata().is_ok())
        .map(|path| path.display().to_string())
        .collect();
    if existing.is_empty() {
        return Ok(());
    }
    let text = format!(
        "{} already there: {}. Nothing was written; use another --out, --client-id or --index-from, or --force to \
         replace them.",
        counted(existing.len() as u64, "file is", "files are"),
        first_few(&existing)
    );
    Err(Problem::refused("files_exist", text))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use fleetwire_tls::Identity;

    use super::*;

    fn arguments(directory: &Path, client_id: &str, count: u32) -> CertsIssueArguments {
        CertsIssueArguments {
            state: directory.join("state"),
            count,
            index_from: 5,
            client_id: client_id.to_owned(),
            key_type: KeyType::P256,
            not_after: None,
            out: directory.join("out"),
            force: false,
        }
    }

    fn usage(result: Result<String, Problem>) -> String {
        match result {
            Err(Problem::Usage(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn identities_are_written_and_not_overwritten_unasked() {
        let directory = tempfile::tempdir().unwrap();
        let mut arguments = arguments(directory.path(), "device-{index}", 2);
        let said = issue(&arguments).unwrap();
        assert!(said.starts_with("Wrote 2 identities to "), "{said}");
        let (cert, key) = in_directory(&arguments.out, "device-6");
        Identity::from_files(&cert, &key).unwrap();
        let before = fs::read(&cert).unwrap();

        arguments.count = 3;
        match issue(&arguments) {
            Err(Problem::Refused {
                slug: "files_exist",
                text,
            }) => {
                assert!(text.starts_with("4 files are already there"), "{text}");
            }
            other => panic!("{other:?}"),
        }
        assert!(!in_directory(&arguments.out, "device-7").0.exists());
        assert_eq!(fs::read(&cert).unwrap(), before);

        arguments.force = true;
        issue(&arguments).unwrap();
        assert_ne!(fs::read(&cert).unwrap(), before);
        Identity::from_files(&cert, &key).unwrap();
    }

    #[test]
    fn a_client_id_stays_inside_its_directory() {
        let directory = tempfile::tempdir().unwrap();
        for client_id in [
            "../{index}",
            "a/{index}",
            "/tmp/{index}",
            ".{index}",
            "a\0{index}",
            "a\\{index}",
        ] {
            let text = usage(issue(&arguments(directory.path(), client_id, 1)));
            assert!(text.contains("file name"), "{client_id}: {text}");
        }
        assert!(usage(issue(&arguments(directory.path(), "fixed", 2))).contains("{index}"));
        let long = "x".repeat(COMMON_NAME_CHARS_MAX + 1);
        assert!(usage(issue(&arguments(directory.path(), &long, 1))).contains("64 characters"));
        assert!(usage(issue(&arguments(directory.path(), "", 1))).contains("file name"));
        assert_eq!(
            fs::read_dir(directory.path()).unwrap().count(),
            0,
            "nothing was made"
        );
    }

    #[test]
    fn the_ca_is_not_replaced_by_a_device() {
        let directory = tempfile::tempdir().unwrap();
        let mut arguments = arguments(directory.path(), "ca", 1);
        arguments.force = true;
        issue(&arguments).unwrap();
        let ca = fs::read(arguments.state.join("ca.crt")).unwrap();
        arguments.out = arguments.state.join("../state");
        for client_id in ["ca", "server", "CA"] {
            arguments.client_id = client_id.to_owned();
            assert!(usage(issue(&arguments)).contains("another --out"), "{client_id}");
        }
        assert_eq!(fs::read(arguments.state.join("ca.crt")).unwrap(), ca);
    }

    #[test]
    fn the_end_is_a_day_or_a_moment() {
        let end = |text| end_of_validity(text).unwrap().format(&Rfc3339).unwrap();
        assert_eq!(end("2027-01-31"), "2027-01-31T23:59:59Z");
        assert_eq!(end("2027-01-31T12:00:00+01:00"), "2027-01-31T12:00:00+01:00");
        for wrong in ["", "31.01.2027", "2027-02-30", "tomorrow"] {
            assert!(
                matches!(end_of_validity(wrong), Err(Problem::Usage(_))),
                "{wrong}"
            );
        }
    }
}
