//! `firebackup serve`: the API, the schedules and the jobs of one machine, in one process.

mod demo;
mod sign_in;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use firebackup_bootstrap::StepSettings;
use firebackup_bootstrap::local::{LocalApp, LocalSettings};
use firebackup_bootstrap::server::{Guard, MetricsServer, Server};
use firebackup_codec::secret::SecretKey;
use firebackup_control::FirstOwner;
use firebackup_embedded::{SystemRandom, key_file};
use serde::Serialize;
use tokio::sync::watch;

use crate::commands::demo::stage::Stage;
use crate::commands::serve::sign_in::SignInArgs;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit::Exit;
use crate::keys::secret_key;
use crate::table::pairs;

/// Examples for the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  firebackup serve
  firebackup serve --data /srv/firebackup --listen 0.0.0.0:8642 --tls-cert fullchain.pem --tls-key key.pem
  firebackup serve --oidc-client-id ID --oidc-client-secret-file secret --public-url https://backup.example.com \
      --behind-proxy --listen 0.0.0.0:8642 --sign-up @example.com
  firebackup serve --demo";

/// The file of the master key in the data folder.
const KEY: &str = "master.key";
/// The file of the database there.
const DATABASE: &str = "firebackup.db";

/// Where the server keeps what it knows, and where it listens.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The folder for the database and the master key [default: firebackup-data, with --demo firebackup-demo-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where to listen; port 0 takes any that is free
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8642")]
    listen: SocketAddr,
    /// Certificate (PEM) for TLS; needed to listen elsewhere than on the loopback interface
    #[arg(long, value_name = "FILE", requires = "tls_key", conflicts_with = "behind_proxy")]
    tls_cert: Option<PathBuf>,
    /// Private key (PEM) of the certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert", conflicts_with = "behind_proxy")]
    tls_key: Option<PathBuf>,
    /// A proxy in front of it speaks TLS: listen in the clear
    #[arg(long)]
    behind_proxy: bool,
    /// Where Prometheus finds `/metrics`, a loopback address (127.0.0.1:9464); nowhere where none is given
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<SocketAddr>,
    /// Chunks of one job that are done at a time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    parallel: u8,
    /// About how many documents a chunk of a backup has
    #[arg(long, value_name = "N", default_value_t = 250_000, value_parser = clap::value_parser!(u64).range(1..))]
    chunk_documents: u64,
    /// About how many documents a part of a restore has
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..))]
    part_documents: u64,
    /// Name of the organization that the first start makes
    #[arg(long, value_name = "NAME", default_value = "My organization")]
    organization: String,
    /// Make another owner's API key and show it: the first one is lost
    #[arg(long)]
    new_owner_key: bool,
    /// Begin anew with a project on a local Firestore emulator, and take a first backup of it
    #[arg(long)]
    demo: bool,
    /// Let what others choose (issuers, endpoints of S3-compatible services) lead to this machine and its networks
    #[arg(long)]
    allow_private_addresses: bool,
    /// Whom people sign in with
    #[command(flatten)]
    sign_in: SignInArgs,
}

/// What a start tells.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Started {
    address: String,
    data: PathBuf,
    /// Where Prometheus finds what is counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<String>,
    /// Of the first start only, and where another one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key: Option<String>,
    /// Signs the owner in, once and within a quarter of an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    sign_in_code: Option<String>,
    /// The page that does it, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    sign_in_link: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    demo: Option<demo::Shown>,
}

/// Serves until it is asked to end.
///
/// # Errors
/// When it cannot listen there, or its folder cannot be used.
pub(crate) async fn run(context: &Context, args: ServeArgs) -> Result<Exit> {
    let stop = context.interrupt.asked();
    // before anything is made: a server that may not listen makes nothing
    let server = Server::listen(args.listen, &guard(&args)).await?;
    let metrics = args.metrics_listen.map(MetricsServer::listen).transpose()?;
    let data = args.data.clone().unwrap_or_else(|| folder_of(args.demo).into());
    let stage = match args.demo {
        true => {
            demo::prepare(&data)?;
            Some(demo::stage(context).await?)
        }
        false => None,
    };
    let app = open(context, &args, &data, server.address).await?;
    if let Err(error) = app.check_master_key().await {
        let path = data.join(KEY);
        let text = format!("{} does not open what this server keeps ({error}): put the right key back", path.display());
        return Err(CliError::Refused(text));
    }
    let owner = match app.first_owner(&args.organization).await? {
        None if args.new_owner_key => app.another_owner_key().await?,
        first => first,
    };
    let at = Listening::of(&args, &server, metrics.as_ref());
    let serving = server.serve(app.http_state(), app.live(), stop.clone());
    let showing = show(metrics, &app, stop.clone());
    let working = app.work(stop.clone());
    let telling = tell(context, &app, &args, &at, &data, owner.as_ref(), stage.as_ref());
    let (served, shown, (), told) = tokio::join!(serving, showing, working, telling);
    told?;
    served.and(shown).map_err(CliError::file("serve", Path::new(&at.address)))?;
    Ok(Exit::Done)
}

/// Where it listens.
struct Listening {
    address: String,
    metrics: Option<String>,
}

impl Listening {
    fn of(args: &ServeArgs, server: &Server, metrics: Option<&MetricsServer>) -> Self {
        let scheme = if args.tls_cert.is_some() { "https" } else { "http" };
        let address = format!("{scheme}://{}/api/v1", server.address);
        Self { address, metrics: metrics.map(MetricsServer::url) }
    }
}

async fn show(metrics: Option<MetricsServer>, app: &LocalApp, stop: watch::Receiver<bool>) -> io::Result<()> {
    match metrics {
        Some(server) => server.serve(app.metrics(), stop).await,
        None => Ok(()),
    }
}

const fn folder_of(demo: bool) -> &'static str {
    if demo { "firebackup-demo-data" } else { "firebackup-data" }
}

fn guard(args: &ServeArgs) -> Guard {
    match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => Guard::Tls { certificate: certificate.clone(), key: key.clone() },
        _ if args.behind_proxy => Guard::BehindProxy,
        _ => Guard::Loopback,
    }
}

async fn open(context: &Context, args: &ServeArgs, data: &Path, address: SocketAddr) -> Result<LocalApp> {
    let sign_in = args.sign_in.settings(address, args.tls_cert.is_some())?;
    fs::create_dir_all(data).map_err(CliError::file("make the folder", data))?;
    let chunk_documents = if args.demo { demo::CHUNK_DOCUMENTS } else { args.chunk_documents };
    let settings = LocalSettings {
        steps: StepSettings { chunk_documents, part_documents: args.part_documents, ..StepSettings::default() },
        parallel: args.parallel.into(),
        ambient: context.settings.storage.options.clone(),
        sign_in,
        events_issuer: args.sign_in.events_issuer(),
        events_url: args.sign_in.events_url(address, args.tls_cert.is_some()),
        emulator: context.settings.emulator().map(str::to_owned),
        allow_private_addresses: args.allow_private_addresses,
    };
    Ok(LocalApp::open(data, master_key(context, data)?, settings).await?)
}

/// The key in the data folder, made at the first start. Never a second one: nothing that was sealed with the first would
/// open with it.
fn master_key(context: &Context, data: &Path) -> Result<SecretKey> {
    let path = data.join(KEY);
    if !path.exists() {
        if data.join(DATABASE).exists() {
            let text =
                format!("{} is missing, and no other key opens what this server keeps: put it back", path.display());
            return Err(CliError::Refused(text));
        }
        key_file::generate(&SystemRandom).write_new(&path)?;
        context
            .output
            .note(&format!("{} is the master key of all backups: keep a copy of it elsewhere", path.display()));
    }
    Ok(secret_key(&key_file::read(&path)?))
}

async fn tell(
    context: &Context,
    app: &LocalApp,
    args: &ServeArgs,
    at: &Listening,
    data: &Path,
    owner: Option<&FirstOwner>,
    stage: Option<&Stage>,
) -> Result<()> {
    let output = &context.output;
    let mut shown = None;
    if let (Some(stage), Some(owner)) = (stage, owner) {
        match demo::first_backup(context, app, stage, data, owner).await {
            Ok(first) => shown = Some(first),
            // asked to end before it was done
            Err(CliError::Interrupted) => return Ok(()),
            Err(error) => {
                // nobody else would end the server
                context.interrupt.end();
                return Err(error);
            }
        }
    }
    let sign_in = app.owner_code().await?;
    let sign_in_link = sign_in.as_ref().and_then(|code| args.sign_in.link(code));
    let shown_sign_in = SignIn { code: sign_in.as_deref().map(String::as_str), link: sign_in_link.as_deref() };
    let mut lines = vec![output.good("FireBackup is running."), told_pairs(at, data, owner, &shown_sign_in)];
    lines.extend(shown.as_ref().map(|shown| demo::text(output, &at.address, shown)));
    let ends = match shown {
        Some(_) => "Ctrl-C ends it; a demonstration begins anew each time.",
        None => "Ctrl-C ends it; jobs go on where they were when it is started again.",
    };
    lines.push(output.dim(ends));
    let api_key = owner.map(|owner| owner.api_key.to_string());
    let sign_in_code = sign_in.map(|code| code.to_string());
    let (address, metrics, data) = (at.address.clone(), at.metrics.clone(), data.to_owned());
    let started = Started { address, data, metrics, api_key, sign_in_code, sign_in_link, demo: shown };
    output.result(&started, &lines.join("\n"))
}

/// How the owner signs in.
struct SignIn<'a> {
    code: Option<&'a str>,
    link: Option<&'a str>,
}

fn told_pairs(at: &Listening, data: &Path, owner: Option<&FirstOwner>, sign_in: &SignIn<'_>) -> String {
    let mut told = vec![("address", at.address.clone()), ("data", data.display().to_string())];
    told.extend(at.metrics.clone().map(|url| ("metrics", url)));
    if let Some(owner) = owner {
        told.push(("api key", format!("{} (the owner's; it is shown this once)", owner.api_key.as_str())));
    }
    if let Some(link) = sign_in.link {
        told.push(("sign in", format!("{link} (as the owner; good once, for 15 minutes)")));
    } else if let Some(code) = sign_in.code {
        told.push(("sign-in code", format!("{code} (the owner's, for POST /auth/token; good once, for 15 minutes)")));
    }
    pairs(told)
}
