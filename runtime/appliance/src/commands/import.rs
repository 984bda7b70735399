//! `alphaplus models import`: an archive of `models export`, or an ONNX file of any origin bound to the bar path.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use graph::{CodecError, GraphCodec};
use market::{Features, Timeframe, Timestamp};
use onnx::Onnx;
use onnx::about::About;
use plugin::FeaturePlugin;
use registry::{Foreign, Label, Manifest, Normaliser, Runs, sha256_hex};
use serde::Deserialize;

use crate::cli::{self, ImportModel, TryFile};
use crate::config::Settings;
use crate::foreign::{self, BindError, Binding, Trial, TrialLimits};
use crate::load::{self, Parts};
use crate::runner::Runner;

/// Where a tar header says that it is one.
const TAR_MAGIC: (u64, &[u8]) = (257, b"ustar");
const NORMALISER_BYTES_MAX: u64 = 4 << 20;

pub fn run(settings: &Settings, parts: &Parts, args: &ImportModel) -> Result<(), String> {
    let at = |e: std::io::Error| format!("{}: {e}", args.file.display());
    let mut head = Vec::new();
    let (skip, magic) = TAR_MAGIC;
    let length = skip + magic.len() as u64;
    File::open(&args.file).map_err(at)?.take(length).read_to_end(&mut head).map_err(at)?;
    if !head.ends_with(magic) || head.len() as u64 != length {
        return onnx_file(settings, parts, args);
    }
    let mut file = File::open(&args.file).map_err(at)?;
    let imported = parts.registry.import(&mut file, args.name.as_deref()).map_err(|e| e.to_string())?;
    let is = format!("{}/{}", imported.name, imported.published.version);
    if imported.already {
        println!("{is} is here already, to the byte: nothing was written");
        return Ok(());
    }
    let was = if is == imported.was { String::new() } else { format!(", which was {}", imported.was) };
    println!("imported {is}{was}");
    let folder = parts.model(&is)?;
    let m = &folder.manifest;
    if let Err(error) = parts.pinned(settings, &m.features.plugin, &m.features.digest) {
        println!("before it can be served: {error}");
    }
    Ok(())
}

/// What must be said of an ONNX file.
struct Said<'a> {
    name: &'a str,
    features: &'a str,
    window: u32,
    timeframe: Timeframe,
    label: registry::LabelKind,
    horizon_bars: u32,
    normaliser: &'a str,
}

impl<'a> Said<'a> {
    fn of(args: &'a ImportModel) -> Result<Said<'a>, String> {
        let missing = |flag: &str| {
            format!(
                "an ONNX file doesn't say what it is fed: give {flag}; see 'alphaplus models import --help' (and if it \
                 is an archive, it is not one that 'models export' wrote)"
            )
        };
        let label = args.label.ok_or_else(|| missing("--label"))?;
        let timeframe = args.timeframe.as_deref().ok_or_else(|| missing("--timeframe"))?;
        Ok(Said {
            name: args.name.as_deref().ok_or_else(|| missing("--name"))?,
            features: args.features.as_deref().ok_or_else(|| missing("--features"))?,
            window: args.window.filter(|&w| w > 0).ok_or_else(|| missing("--window"))?,
            timeframe: Timeframe::parse(timeframe).map_err(|e| format!("--timeframe: {e}"))?,
            label: match label {
                cli::LabelKind::LogReturn => registry::LabelKind::LogReturn,
                cli::LabelKind::RealisedVolatility => registry::LabelKind::RealisedVolatility,
                cli::LabelKind::Direction => {
                    return Err("the outputs of a file are read as points: give --label log-return or \
                                realised-volatility"
                        .into());
                }
            },
            horizon_bars: args.horizon.ok_or_else(|| missing("--horizon"))?,
            normaliser: args.normaliser.as_deref().ok_or_else(|| missing("--normaliser"))?,
        })
    }
}

fn onnx_file(settings: &Settings, parts: &Parts, args: &ImportModel) -> Result<(), String> {
    let said = Said::of(args)?;
    let bytes = read(&args.file, onnx::limits::FILE_BYTES_MAX as u64)?;
    let at = |e: String| format!("{}: {e}", args.file.display());
    let about = About::read(&bytes).map_err(|e| at(e.to_string()))?;
    let component = parts.component(settings, said.features)?;
    let options = load::pairs(&args.options)?;
    let features = FeaturePlugin::new(&component, &options).map_err(|e| e.to_string())?;
    let columns = features.spec().names.len();
    let binding = Binding::find(&about, args.output.as_deref(), said.window as usize, columns).map_err(at)?;
    let normaliser = normaliser(said.normaliser, columns)?;
    let (runs, onnx, trial) = prepare(parts, args, &bytes, &binding).map_err(at)?;
    let manifest = manifest(args, &said, &about, &features, &binding, normaliser, (runs, &bytes, &trial));
    // What tract runs is the file itself; where our graph holds it, the file is kept beside it.
    let source = [("model.onnx", onnx.as_slice()), ("source.onnx", bytes.as_slice())];
    let files = if runs == Runs::Graph { &source[..] } else { &source[..1] };
    let published = parts.registry.publish(manifest, files).map_err(|e| e.to_string())?;
    tell(&format!("{}/{}", said.name, published.version), args, &about, &binding, runs, &trial);
    Ok(())
}

fn tell(model: &str, args: &ImportModel, about: &About, binding: &Binding, runs: Runs, trial: &Trial) {
    println!("imported {model} from {}", args.file.display());
    println!("file          by {}, opset {}, SHA-256 {}", about.producer, about.opset, trial.digest);
    println!(
        "bound         {:?} takes {} bars of {} features as {}, {:?} gives {}",
        binding.input,
        binding.window,
        binding.features,
        match binding.layout {
            registry::Layout::Sequence => "[batch, window, features]",
            registry::Layout::Flat => "[batch, window x features]",
        },
        binding.output,
        trial.outputs
    );
    println!("runs          {}", runs_on(runs));
    println!(
        "checked       made-up windows give finite numbers; same bits in batches of {:?}",
        trial.batches
    );
    println!("not known     how it was trained and how good it is: judge it before you rely on it");
    println!("calibrated    not yet: replies have no confidence and no interval until you run");
    println!("              alphaplus models calibrate {model} --bars BARS-IT-WAS-NOT-TRAINED-ON");
}

/// For people.
pub fn runs_on(runs: Runs) -> &'static str {
    match runs {
        Runs::Graph => "on our own executor, as a trained model does",
        Runs::Tract => {
            "through tract: our own graph lacks one of its operators; slower, and never row by row"
        }
    }
}

/// As our graph where that holds it, else as it is; and its trial run.
fn prepare(
    parts: &Parts,
    args: &ImportModel,
    bytes: &[u8],
    binding: &Binding,
) -> Result<(Runs, Vec<u8>, Trial), String> {
    match binding.graph(bytes) {
        Ok(graph) => {
            let onnx = Onnx.encode(&graph).map_err(|e| e.to_string())?;
            // What is stored is what is tried.
            let stored = Onnx.decode(&onnx).map_err(|e| e.to_string())?;
            let mut runner = Runner::new(parts.executor.as_ref(), &stored, binding.window, binding.features)
                .map_err(|e| e.to_string())?;
            let trial = foreign::try_out(&mut runner, binding.window * binding.features, sha256_hex(bytes))?;
            Ok((Runs::Graph, onnx, trial))
        }
        Err(BindError::Codec(CodecError::Unsupported { op, reason })) => {
            eprintln!("our own graph doesn't hold it (op {op}: {reason}); tract is asked");
            let limits = TrialLimits {
                memory_bytes: args.trial_memory_mb.saturating_mul(1 << 20),
                time: Duration::from_secs(args.trial_seconds),
            };
            let trial = foreign::try_file_apart(&args.file, binding, limits)
                .map_err(|e| format!("tract can't run it: {e}"))?;
            if trial.digest != sha256_hex(bytes) {
                return Err("it changed while it was imported: import it again".into());
            }
            Ok((Runs::Tract, bytes.to_vec(), trial))
        }
        Err(error) => Err(error.to_string()),
    }
}

fn manifest(
    args: &ImportModel,
    said: &Said,
    about: &About,
    features: &FeaturePlugin,
    binding: &Binding,
    normaliser: Normaliser,
    (runs, bytes, trial): (Runs, &[u8], &Trial),
) -> Manifest {
    let spec = features.spec();
    let digest = sha256_hex(bytes);
    let file = args.file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let description =
        if args.description.is_empty() { format!("imported from {file}") } else { args.description.clone() };
    Manifest {
        format: registry::FORMAT,
        name: said.name.into(),
        version: 1,
        created_at: Timestamp::now().to_string(),
        architecture: registry::Architecture {
            plugin: format!("onnx@opset-{}", about.opset),
            digest: digest.clone(),
            hyper: "{}".into(),
        },
        features: registry::Features {
            plugin: spec.plugin.clone(),
            digest: spec.digest.clone(),
            options: features.options().into(),
            fingerprint: registry::names_fingerprint(&spec.names),
            warmup: u32::try_from(spec.warmup).unwrap_or(u32::MAX),
            names: spec.names.clone(),
        },
        input: registry::Input {
            window: said.window,
            features: binding.features as u32,
            outputs: trial.outputs as u32,
        },
        normaliser,
        label: Label {
            kind: said.label,
            horizon_bars: said.horizon_bars,
            gaps: registry::GapPolicy::Drop,
            dead_band: None,
            mean: args.label_mean,
            scale: args.label_scale,
        },
        data: registry::Data { description, timeframe: said.timeframe.to_string(), ..Default::default() },
        output: registry::Output::Point,
        training: Default::default(),
        metrics: Default::default(),
        calibration: None,
        parent: None,
        profile: None,
        foreign: Some(Foreign {
            digest,
            producer: about.producer.clone(),
            opset: u32::try_from(about.opset).unwrap_or(u32::MAX),
            runs,
            input: binding.input.clone(),
            output: binding.output.clone(),
            layout: binding.layout,
        }),
        serving: registry::Serving {
            sliding: registry::Sliding::Exact,
            device_tolerance: 1e-4,
            precision: registry::Precision::F32,
            precision_error: None,
        },
        files: Default::default(),
    }
}

/// The file of `--normaliser`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Constants {
    mean: Vec<f64>,
    scale: Vec<f64>,
    #[serde(default)]
    clip: Option<f64>,
}

fn normaliser(text: &str, columns: usize) -> Result<Normaliser, String> {
    if text == "none" {
        return Ok(Normaliser { clip: None, mean: vec![0.0; columns], scale: vec![1.0; columns] });
    }
    let bytes = read(Path::new(text), NORMALISER_BYTES_MAX)?;
    let Constants { mean, scale, clip } =
        serde_json::from_slice(&bytes).map_err(|e| format!("--normaliser {text}: {e}"))?;
    for (name, list) in [("mean", &mean), ("scale", &scale)] {
        if list.len() != columns {
            return Err(format!(
                "--normaliser {text}: {name} has {} numbers and the features have {columns} columns",
                list.len()
            ));
        }
    }
    Ok(Normaliser { clip, mean, scale })
}

fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let at = |e: std::io::Error| format!("{}: {e}", path.display());
    let mut bytes = Vec::new();
    File::open(path).map_err(at)?.take(bytes_max + 1).read_to_end(&mut bytes).map_err(at)?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!("{} has more than {bytes_max} bytes", path.display()));
    }
    Ok(bytes)
}

/// The trial run, whose result the parent reads from stdout.
pub fn try_file(parts: &Parts, args: &TryFile) -> Result<(), String> {
    let result = read(&args.file, onnx::limits::FILE_BYTES_MAX as u64).and_then(|bytes| {
        About::read(&bytes).map_err(|e| e.to_string())?;
        let (layout, window, features) = match *args.dims.as_slice() {
            [window, features] => (registry::Layout::Sequence, window, features),
            [len] => (registry::Layout::Flat, len, 1),
            _ => return Err("--dims takes one or two sizes".into()),
        };
        let binding = Binding {
            input: args.input.clone(),
            layout,
            output: String::new(),
            output_index: args.output,
            window,
            features,
        };
        foreign::try_file(parts.executor.as_ref(), &bytes, &binding)
    });
    println!("{}", serde_json::to_string(&result).map_err(|e| e.to_string())?);
    Ok(())
}
