//! `fleetwire run`: ramp, hold, drain, and what came out of it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use std::{env, thread};

use fleetwire_engine::{Engine, Limits, Shutdown, StartError};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::arguments::RunArguments;
use crate::child::Child;
use crate::cost::Cost;
use crate::devices::{Devices, Run};
use crate::identities::Identities;
use crate::outcome::{Measured, Outcome};
use crate::plan_text::plan_text;
use crate::preflight;
use crate::prepare::{self, Prepared};
use crate::problem::{Exit, Problem};
use crate::progress::{Phase, Progress, Standing};
use crate::report::{JsonOutput, Phases, Report, ReportError, command_line};
use crate::scenario::{Scenario, Target};
use crate::signals::Interrupts;
use crate::text::count;
use crate::window::Window;

/// Carries out the command.
pub(crate) fn run(arguments: &RunArguments) -> Result<Exit, Problem> {
    let scenario = Scenario::new(arguments)?;
    for note in prepare::notes(&scenario) {
        crate::tell(note);
    }
    if arguments.dry_run {
        return dry_run(&scenario);
    }
    let json = JsonOutput::open(arguments.json.as_deref())?;
    let blank = Report::blank(&scenario, command_line(env::args()), now_rfc3339());
    let (broker, outcome) = match carry_out(scenario, &json, &blank) {
        Ok(outcome) => outcome,
        Err(problem) => {
            if let Err(unwritten) = json.write(&blank.with_problem(&problem)) {
                crate::tell(unwritten);
            }
            return Err(problem);
        }
    };
    json.write(&outcome.report)?;
    if !json.is_stdout() {
        crate::print_text(&outcome.summary(&broker).to_string())?;
    }
    Ok(outcome.exit())
}

/// Prepares the run and conducts it; answers also where the fleet connected to, in words.
fn carry_out(scenario: Scenario, json: &JsonOutput, blank: &Report) -> Result<(String, Outcome), Problem> {
    // Before anything else: even catching signals takes descriptors.
    preflight::open_files(scenario.devices, scenario.threads)?;
    let interrupts =
        Interrupts::catch().map_err(|error| Problem::failed(format!("signals cannot be caught: {error}")))?;
    interrupts.write_if_forced(json.clone(), blank.clone().interrupted());
    let begun = Instant::now();
    let prepared = prepare::prepare(&scenario, &interrupts)?;
    if interrupts.asked() {
        return Err(Problem::Interrupted);
    }
    let broker = prepared.broker.clone();
    crate::tell(format_args!(
        "{} devices to {broker}, seed {}",
        count(scenario.devices.into()),
        scenario.seed
    ));
    let outcome = conduct(scenario, prepared, &interrupts, begun, blank.clone())?;
    Ok((broker, outcome))
}

fn dry_run(scenario: &Scenario) -> Result<Exit, Problem> {
    let text = match &scenario.target {
        Target::Child => plan_text(
            scenario,
            &Identities::None,
            preflight::check(scenario.devices, scenario.threads, 1)?,
            "",
        ),
        Target::Broker(_) => {
            let prepared = prepare::prepare(scenario, &Interrupts::default())?;
            let addresses = prepare::list(prepared.plan.way().addresses());
            plan_text(scenario, &prepared.identities, prepared.preflight, &addresses)
        }
    };
    crate::print_text(&text)?;
    Ok(Exit::Done)
}

/// Runs the fleet through its phases.
fn conduct(
    scenario: Scenario,
    prepared: Prepared,
    interrupts: &Interrupts,
    begun: Instant,
    blank: Report,
) -> Result<Outcome, Problem> {
    let Prepared {
        plan,
        identities,
        endpoint,
        circumstances,
        ..
    } = prepared;
    let origin = Instant::now();
    let mut phases = Phases {
        prepare_seconds: origin.duration_since(begun).as_secs_f64(),
        ..Phases::default()
    };
    let boards = (0..scenario.threads).map(|_| Default::default()).collect();
    let window = Window::new(origin);
    let run = Arc::new(Run {
        scenario,
        plan,
        identities,
        window,
        started: SystemTime::now(),
        boards,
    });
    let cost_before = Cost::now();
    let engine = Engine::builder()
        .shards(run.scenario.threads)
        .connect_rate(run.scenario.connect_rate)
        .limits(Limits::default().ack_timeout(run.scenario.ack_timeout))
        .seed(run.scenario.seed)
        .start(|shard| Devices::new(&run, shard))
        .map_err(|error| engine_problem(&error, &run.scenario))?;
    let driver = engine.driver();
    let mut conductor = Conductor {
        progress: Progress::start(run.scenario.devices.into(), origin),
        run: &run,
        interrupts,
        endpoint,
        broken: None,
    };

    conductor.ramp();
    let ramp_end = Instant::now();
    let cost_all_connected = Cost::now();
    conductor.hold(ramp_end);
    let hold_end = Instant::now();
    let cost_hold_end = Cost::now();
    conductor.drain(hold_end);
    let drain_end = Instant::now();
    let connected_at_end = conductor.standing().up;
    let Conductor {
        progress,
        endpoint,
        broken,
        ..
    } = conductor;
    progress.finish();

    run.window.close();
    let Shutdown {
        handlers,
        failed,
        stats,
        ..
    } = engine.shutdown(Duration::ZERO);
    let cpu_seconds = Cost::now().cpu_seconds_since(cost_before);
    phases.ramp_seconds = ramp_end.duration_since(origin).as_secs_f64();
    phases.hold_seconds = hold_end.duration_since(ramp_end).as_secs_f64();
    phases.drain_seconds = drain_end.duration_since(hold_end).as_secs_f64();
    let endpoint_counts = match broken {
        Some(error) => Some(Err(error)),
        None => endpoint.map(|endpoint| endpoint.finish(interrupts)),
    };
    let measured = Measured {
        phases,
        connected_at_end,
        cpu_seconds,
        rss_bytes: cost_hold_end.rss_bytes,
        rss_growth_bytes: cost_all_connected.rss_bytes.saturating_sub(cost_before.rss_bytes),
        stats,
        driver,
        interrupted: interrupts.asked(),
        endpoint_counts,
        failed_threads: failed,
    };
    Ok(Outcome::new(&run, handlers, measured, circumstances, blank))
}

/// The main thread's part of a run: it watches, and says when a phase is over.
struct Conductor<'a> {
    run: &'a Run,
    interrupts: &'a Interrupts,
    progress: Progress,
    endpoint: Option<Child>,
    /// Why the run cannot go on.
    broken: Option<ReportError>,
}

impl Conductor<'_> {
    fn standing(&self) -> Standing {
        Standing::of(&self.run.boards)
    }

    /// Whether the run is to end before its time. From then on nobody dials.
    fn is_cut_short(&mut self) -> bool {
        let cut_short = self.interrupts.asked() || self.is_broken();
        if cut_short {
            self.run.window.stop_dialling();
        }
        cut_short
    }

    /// Whether our own endpoint has died.
    fn is_broken(&mut self) -> bool {
        if self.broken.is_none() {
            self.broken = self.endpoint.as_mut().and_then(Child::died);
        }
        self.broken.is_some()
    }

    /// Until the first attempt of each device is decided.
    fn ramp(&mut self) {
        let devices = u64::from(self.run.scenario.devices);
        let patience = self.patience();
        let (mut decided, mut decided_at) = (0, Instant::now());
        while !self.is_cut_short() {
            let (now, standing) = (Instant::now(), self.standing());
            if standing.decided >= devices {
                return;
            }
            if standing.decided > decided {
                (decided, decided_at) = (standing.decided, now);
            } else if now.duration_since(decided_at) > patience {
                crate::tell(format_args!(
                    "warning: nothing has been decided for {} s: the ramp ends here",
                    patience.as_secs()
                ));
                return;
            }
            self.progress.show(
                Phase::Ramp,
                standing.decided as f64 / devices as f64,
                standing,
                now,
            );
            thread::sleep(LOOK_EVERY);
        }
    }

    /// The longest time between two decisions, unless something has broken: two slots of the connect rate, an attempt
    /// at each address, and time for a machine that is busy otherwise.
    fn patience(&self) -> Duration {
        let scenario = &self.run.scenario;
        let addresses = u32::try_from(self.run.plan.way().addresses().len())
            .unwrap_or(u32::MAX)
            .max(1);
        let slots = Duration::from_secs_f64(2.0 / scenario.connect_rate);
        slots + scenario.connect_timeout.saturating_mul(addresses) + Duration::from_secs(10)
    }

    /// For the duration that was asked for.
    fn hold(&mut self, from: Instant) {
        let window = &self.run.window;
        let duration = self.run.scenario.duration;
        let until = from + duration;
        window.hold_from(from);
        window.publish_until(until);
        loop {
            let (now, standing) = (Instant::now(), self.standing());
            let nobody_is_left =
                standing.up == 0 && standing.given_up >= u64::from(self.run.scenario.devices);
            if self.is_cut_short() || nobody_is_left {
                window.publish_until(now.min(until));
                return;
            }
            if now >= until {
                return;
            }
            let share = now.duration_since(from).as_secs_f64() / duration.as_secs_f64();
            self.progress.show(Phase::Hold, share, standing, now);
            thread::sleep(LOOK_EVERY.min(until.duration_since(now)));
        }
    }

    /// Until everything is acknowledged and no more arrives, or the time is up.
    fn drain(&mut self, from: Instant) {
        let limit = if self.interrupts.asked() {
            self.run.scenario.drain.min(INTERRUPTED_DRAIN_MAX)
        } else {
            self.run.scenario.drain
        };
        let (mut last, mut quiet_since) = (self.standing(), from);
        while !self.interrupts.asked_twice() && !self.is_broken() {
            let (now, standing) = (Instant::now(), self.standing());
            if (standing.published, standing.settled, standing.received)
                != (last.published, last.settled, last.received)
            {
                (last, quiet_since) = (standing, now);
            }
            let unsettled = match self.run.scenario.qos {
                fleetwire_codec::QoS::AtMostOnce => 0,
                _ => standing.published.saturating_sub(standing.settled),
            };
            let quiet = now.duration_since(quiet_since);
            if now.duration_since(from) >= limit || (unsettled == 0 && quiet >= QUIET) {
                return;
            }
            let share = now.duration_since(from).as_secs_f64() / limit.as_secs_f64();
            self.progress.show(Phase::Drain, share, standing, now);
            thread::sleep(LOOK_EVERY);
        }
    }
}

/// Why the engine did not start; for want of descriptors it is the machine that does not allow the run.
fn engine_problem(error: &StartError, scenario: &Scenario) -> Problem {
    match error {
        StartError::Io(io_error) if preflight::is_out_of_descriptors(io_error) => Problem::refused(
            "open_files",
            format!(
                "{error}. {}",
                preflight::open_files_advice(scenario.devices, scenario.threads)
            ),
        ),
        _ => Problem::refused("engine_start", format!("{error}.")),
    }
}

fn now_rfc3339() -> String {
    let now = OffsetDateTime::now_utc();
    let now = now.replace_nanosecond(0).unwrap_or(now);
    now.format(&Rfc3339).unwrap_or_default()
}

/// How often the main thread looks; a phase ends at most so much late.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// With nothing on its way and nothing arriving for so long, the drain is over.
const QUIET: Duration = Duration::from_millis(100);
/// Who presses Ctrl-C does not want to wait long.
const INTERRUPTED_DRAIN_MAX: Duration = Duration::from_secs(2);
