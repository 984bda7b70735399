//! The command line of `alphaplus tune`. What a trial is made of is told by the flags of `train`.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, Subcommand, ValueEnum, value_parser};

use crate::cli::Train;

#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  alphaplus tune --study vol --bars BTCUSDT-1h.csv.gz --label realised-volatility --horizon 12 --trials 40
  alphaplus tune --study vol                                go on after a kill, Ctrl-C or --timeout
  alphaplus tune --study vol --trials 80                    40 more
  alphaplus tune show vol --svg vol.svg                     trials, importance of parameters, a plot
  alphaplus tune --study fast --bars … --latency-us 20      only models that answer a bar within 20 us

What is searched: every property of the architecture's schema within its range, learning_rate, weight_decay and batch.
--space narrows a parameter, a plain flag or --hyper fixes it:
  --space hidden=16..128:log       a range, both ends inside, on a logarithmic scale
  --space layers=1,2               these values
  --space batch=64                 this value
  --space window=30..120           the window is searched only where it is named

A trial's value is the validation loss of its best epoch, in the label's normalised unit; lower is better. The test part
is cut off before anything else and no trial sees it. It is judged once, for the model that is registered at the end.
With one worker the same seed gives the same trials, also over kills, unless --latency-us is set, which measures.

Every trial is counted in trials.jsonl in the models folder, by bars and label; training.trials of a manifest is that
count. Removing a study doesn't lower it."
)]
pub struct Tune {
    // First: it looks at which flags were given.
    #[command(flatten)]
    pub flags: Flags,
    #[command(subcommand)]
    pub command: Option<TuneCommand>,
    /// The study's name: 1 to 64 of a-z 0-9 _ -. One that is there goes on; it needs no other flags then.
    #[arg(long)]
    pub study: Option<String>,
    /// Narrow a parameter: NAME=LOW..HIGH[:log|:linear], NAME=A,B,C or NAME=VALUE; repeatable.
    #[arg(long, value_name = "NAME=DOMAIN")]
    pub space: Vec<String>,
    /// How parameters are chosen.
    #[arg(long, value_enum, default_value = "tpe")]
    pub sampler: SamplerName,
    /// Which trials are stopped early.
    #[arg(long, value_enum, default_value = "median")]
    pub pruner: PrunerName,
    /// Validate each trial on so many stretches, one before the other; its value is their mean.
    #[arg(long, default_value_t = 1)]
    pub folds: u32,
    /// Train each trial with so many seeds; its value is their mean.
    #[arg(long, default_value_t = 1)]
    pub seeds: u32,
    /// A constraint: the 99th percentile of a candidate's latency on this machine, batch 1, measured before it is
    /// trained. Slower ones are recorded as infeasible and not trained.
    #[arg(long, value_name = "US")]
    pub latency_us: Option<f64>,
    /// Of what: one pushed row of a sliding window, or a whole window.
    #[arg(long, value_enum, default_value = "push", requires = "latency_us")]
    pub latency_of: Latency,
    /// Begin no trial after so long: 90s, 30m, 2h. Those under way end.
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<String>,
    /// Trials at once, each with its share of the threads. With more than one the order of results, and so what the
    /// sampler proposes, depends on timing.
    #[arg(long, default_value_t = 1)]
    pub workers: usize,
    /// Don't train and register the best one at the end.
    #[arg(long)]
    pub search_only: bool,
}

#[derive(Subcommand, Debug)]
pub enum TuneCommand {
    /// Trials, the best one, and which parameters mattered.
    Show {
        study: String,
        /// Draw the history into this file.
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
        #[arg(long)]
        json: bool,
    },
    /// All studies.
    Ls,
    /// Check the trials ledger and print how many trials each question has had.
    Ledger,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SamplerName {
    /// Tree-structured Parzen estimator
    Tpe,
    Random,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum PrunerName {
    /// Whose best epoch is worse than the median of five or more complete trials by the same epoch, after a fifth of them
    Median,
    /// Brackets of successive halving, factor 3
    Hyperband,
    None,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Latency {
    Push,
    Window,
}

/// The flags of `train`, none of them required, and the ids of those that were given.
#[derive(Debug)]
pub struct Flags {
    pub train: Train,
    pub given: Vec<String>,
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |id: &&clap::Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
        let given = matches.ids().filter(given).map(|id| id.as_str().to_string()).collect();
        Ok(Flags { train: Train::from_arg_matches(matches)?, given })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Flags::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        let own = |command: Command, arg: Arg| {
            let id = arg.get_id().to_string();
            command.mut_arg(id, |_| arg)
        };
        let command = Train::augment_args(command).mut_arg("files", |files| files.required(false));
        let name = Arg::new("name")
            .long("name")
            .value_name("NAME")
            .help("Name to register the best model under; otherwise the study's");
        let trials = Arg::new("trials")
            .long("trials")
            .value_name("COUNT")
            .value_parser(value_parser!(u32))
            .default_value("50")
            .help("Trials of the study, those included that it has had");
        let again = Arg::new("again").long("again").value_name("MODEL").hide(true);
        let checkpoints = Arg::new("checkpoints")
            .long("checkpoints")
            .value_name("FOLDER")
            .value_parser(value_parser!(PathBuf))
            .hide(true);
        [name, trials, again, checkpoints].into_iter().fold(command, own)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Flags::augment_args(command)
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use crate::cli::{Cli, Command, Tune, TuneCommand};

    fn tune(line: &str) -> Result<Box<Tune>, clap::Error> {
        match Cli::try_parse_from(line.split(' '))?.command {
            Command::Tune(tune) => Ok(tune),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_study_goes_on_by_its_name_alone() {
        let tune = tune("alphaplus tune --study vol").unwrap();
        assert_eq!((tune.study.as_deref(), tune.flags.train.trials), (Some("vol"), 50));
        // Groups of flags have ids too, with capital letters.
        let mut flags = tune.flags.given.iter().filter(|id| !id.starts_with(char::is_uppercase));
        assert!(flags.all(|id| id == "study"), "{:?}", tune.flags.given);
    }

    #[test]
    fn flags_that_were_given_are_known() {
        let line = "alphaplus tune --study vol --bars a.csv --epochs 3 --space hidden=8 --trials 9";
        let tune = tune(line).unwrap();
        for id in ["files", "epochs", "trials"] {
            assert!(tune.flags.given.iter().any(|given| given == id), "{id} {:?}", tune.flags.given);
        }
        assert!(!tune.flags.given.iter().any(|given| given == "batch"));
        assert_eq!((tune.flags.train.epochs, tune.flags.train.trials), (3, 9));
    }

    #[test]
    fn show_stands_alone() {
        let shown = tune("alphaplus tune show vol --svg a.svg").unwrap();
        assert!(matches!(shown.command, Some(TuneCommand::Show { .. })));
        assert!(tune("alphaplus tune --study vol show vol").is_err());
    }
}
