//! The devices' certificates: all of them are there and checked before the first dial.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread;

use fleetwire_endpoint::pki::{KeyType, Pki};
use fleetwire_tls::Identity;

use crate::problem::Problem;
use crate::scenario::{IdentitySource, Scenario};
use crate::signals::Interrupts;
use crate::text::{count, counted, first_few};

/// One identity per device, or one for all, or none.
#[derive(Clone, Debug)]
pub(crate) enum Identities {
    None,
    Same(Identity),
    /// By the device's place in the run.
    Each(Vec<Identity>),
}

impl Identities {
    /// Reads and checks what the command line names; throw-away identities are not made here.
    pub(crate) fn load(scenario: &Scenario, interrupts: &Interrupts) -> Result<Self, Problem> {
        match &scenario.identities {
            IdentitySource::None | IdentitySource::ThrowAway => Ok(Self::None),
            IdentitySource::Files { cert, key } if !cert.varies() && !key.varies() => {
                let (cert, key) = (scenario.render(cert, 0), scenario.render(key, 0));
                Identity::from_files(Path::new(&cert), Path::new(&key))
                    .map(Self::Same)
                    .map_err(|error| Problem::refused("identities", format!("{error}.")))
            }
            IdentitySource::Files { cert, key } => Self::load_each(scenario, interrupts, "", |place| {
                (
                    scenario.render(cert, place).into(),
                    scenario.render(key, place).into(),
                )
            }),
            IdentitySource::Directory(directory) => {
                let hint = " `fleetwire certs issue` makes identities.";
                Self::load_each(scenario, interrupts, hint, |place| {
                    in_directory(directory, &scenario.client_id(place))
                })
            }
        }
    }

    /// Makes one identity per device, signed by the CA of `pki`.
    pub(crate) fn issue(scenario: &Scenario, pki: &Pki, interrupts: &Interrupts) -> Result<Self, Problem> {
        let issue = |place| {
            if interrupts.asked() {
                return Err(String::new());
            }
            let device = pki
                .issue_device(&scenario.client_id(place), KeyType::P256, None)
                .map_err(|error| error.to_string())?;
            let chain = vec![device.cert_der.to_vec()];
            Identity::from_der(chain, device.key_der.secret_pkcs8_der().to_vec())
                .map_err(|error| error.to_string())
        };
        for_each_place(scenario.devices as usize, issue)
            .map(Self::Each)
            .map_err(|errors| {
                if interrupts.asked() {
                    return Problem::Interrupted;
                }
                Problem::refused("identities", format!("{}.", first_few(&errors)))
            })
    }

    /// The identity of a device.
    pub(crate) fn of(&self, place: usize) -> Option<&Identity> {
        match self {
            Self::None => None,
            Self::Same(identity) => Some(identity),
            Self::Each(identities) => identities.get(place),
        }
    }

    /// What they are, for the plan.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::None => "none".to_owned(),
            Self::Same(_) => "one certificate for all devices, checked".to_owned(),
            Self::Each(identities) => format!(
                "{}, checked",
                counted(identities.len() as u64, "certificate", "certificates")
            ),
        }
    }

    fn load_each(
        scenario: &Scenario,
        interrupts: &Interrupts,
        hint: &str,
        paths: impl Fn(usize) -> (PathBuf, PathBuf) + Sync,
    ) -> Result<Self, Problem> {
        let load = |place| {
            if interrupts.asked() {
                return Err(String::new());
            }
            let (cert, key) = paths(place);
            Identity::from_files(&cert, &key).map_err(|error| error.to_string())
        };
        for_each_place(scenario.devices as usize, load)
            .map(Self::Each)
            .map_err(|errors| {
                if interrupts.asked() {
                    return Problem::Interrupted;
                }
                let text = format!(
                    "{} of {} identities cannot be used: {}.{hint}",
                    count(errors.len() as u64),
                    count(scenario.devices.into()),
                    first_few(&errors)
                );
                Problem::refused("identities", text)
            })
    }
}

/// Where the identity of a client lies in a directory.
pub(crate) fn in_directory(directory: &Path, client_id: &str) -> (PathBuf, PathBuf) {
    (
        directory.join(format!("{client_id}.crt")),
        directory.join(format!("{client_id}.key")),
    )
}

/// Does something for each of `count` places, on all cores; answers the results in order, or all errors.
pub(crate) fn for_each_place<T: Send, E: Send>(
    count: usize,
    work: impl Fn(usize) -> Result<T, E> + Sync,
) -> Result<Vec<T>, Vec<E>> {
    let threads = thread::available_parallelism()
        .map_or(1, NonZero::get)
        .min(count.max(1));
    let share = count.div_ceil(threads);
    let work = &work;
    let parts: Vec<Vec<Result<T, E>>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let places = (thread * share).min(count)..((thread + 1) * share).min(count);
                scope.spawn(move || places.map(work).collect())
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("a panic in a worker is passed on"))
            .collect()
    });
    let (mut done, mut failed) = (Vec::with_capacity(count), Vec::new());
    for result in parts.into_iter().flatten() {
        match result {
            Ok(value) => done.push(value),
            Err(error) => failed.push(error),
        }
    }
    if failed.is_empty() { Ok(done) } else { Err(failed) }
}

#[cfg(test)]
mod tests;
