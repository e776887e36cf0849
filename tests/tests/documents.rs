//! What README and operator's guide tell an operator to type is typed here, block by block, on a lab's edge host.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use spinegate_tests::{
    client::{Message, NHS_NUMBER, pointer},
    command::Run,
    expect::{created, refused},
    lab::{CONSUMER, Lab, PROVIDER, WRITER, folder_for, open_limits, section},
    netns::Host,
    suite::Suite,
};
use toml::Table;

const PAGES: &[&str] = &["README.md", "docs/operator.md"];

/// Commands that are given elsewhere, by their beginnings, and where.
const ELSEWHERE: &[(&str, &str)] = &[
    ("cargo ", "the documented commands are what runs this test"),
    ("apt ", "the suite `package` installs, upgrades and removes it"),
    ("systemctl ", "the same has a systemd"),
    (
        "install -m 0755 target/release/",
        "what they have built is at hand",
    ),
];

/// Commands that may end otherwise than with 0: a refusal that is explained is one, and so is a search that finds nothing.
const ENDINGS: &[(&str, &[i32])] = &[
    ("spinegate explain", &[0, 1]),
    ("spinegate audit search", &[0, 1]),
];

/// How long a command runs that ends only when it is interrupted.
const FOLLOWED: &str = "1";

fn main() -> ExitCode {
    Suite {
        name: "documents",
        edit: like_a_gateway_in_use,
        tests: spinegate_tests::tests![every_command_block_does_what_it_says],
    }
    .run()
}

/// With what some commands are about.
fn like_a_gateway_in_use(table: &mut Table) {
    open_limits(table);
    let folder = folder_for(table, "fetched");
    let fetch = section(section(section(table, "tls"), "client"), "fetch");
    // Nobody listens there.
    fetch.insert("hosts".into(), vec!["127.0.0.1:9"].into());
    fetch.insert("folder".into(), folder.into());
}

/// A block of commands, and where it stands.
struct Block {
    place: String,
    commands: Vec<String>,
}

fn every_command_block_does_what_it_says(lab: &mut Lab) -> Result<()> {
    let desk = Desk::lay(lab)?;
    let mut unused: Vec<_> = ELSEWHERE.iter().map(|(beginning, _)| *beginning).collect();
    for page in PAGES {
        let text = fs::read_to_string(repository().join(page))?;
        let blocks = blocks(page, &text);
        ensure!(!blocks.is_empty(), "{page} has no block of commands");
        for Block { place, commands } in blocks {
            for command in commands {
                if let Some((beginning, _)) = ELSEWHERE.iter().find(|(one, _)| command.starts_with(one)) {
                    unused.retain(|one| one != beginning);
                    continue;
                }
                desk.give(lab, &command)
                    .with_context(|| format!("{place}: `{command}`"))?;
            }
        }
    }
    ensure!(unused.is_empty(), "no document has the commands {unused:?}");
    Ok(())
}

/// A folder that has what the documents speak of.
struct Desk {
    folder: PathBuf,
    decision: String,
}

impl Desk {
    fn lay(lab: &Lab) -> Result<Self> {
        let folder = lab.files().folder().join("desk");
        fs::create_dir_all(&folder)?;
        let path = |name: &str| folder.join(name);
        let program = path("spinegate");
        let (binary, config) = (lab.binary().display(), lab.files().config());
        fs::write(
            &program,
            format!("#!/bin/sh\nexec {binary} --config {} \"$@\"\n", config.display()),
        )?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;

        let stored = pointer(PROVIDER.ods, NHS_NUMBER);
        let id = created(lab, &stored)?;
        let read = Message::read(&id).from(&PROVIDER);
        fs::write(path("pointer.json"), lab.client(Host::Ssp).answer(&read)?.body)?;
        let update = Message::update(&id).from(&WRITER);
        fs::write(
            path("update.json"),
            update.bytes().split("\r\n\r\n").nth(1).unwrap_or_default(),
        )?;
        fs::write(path("request.http"), update.bytes())?;
        let token = update.headers().iter().find(|(name, _)| name == "Authorization");
        let token = token.and_then(|(_, value)| value.strip_prefix("Bearer "));
        fs::write(path("token.txt"), token.context("a message without a token")?)?;
        for name in ["client.pem", "supplier.pem"] {
            fs::copy(&lab.pki().leaf("good")?.cert, path(name))?;
        }
        lab.client(Host::Stranger).knock()?;
        let refusal = refused(
            lab,
            &Message::delete(&id).from(&CONSUMER),
            403,
            "interaction_not_allowed",
        )?;
        let decision = refusal
            .header("x-request-id")
            .context("an answer without an id")?;

        // Two files of a log, as a rotation leaves them.
        let log = lab.files().audit();
        let rotated = log.with_extension("jsonl.1");
        fs::rename(&log, &rotated)?;
        lab.agent().order(&["reload"])?;
        fs::copy(&rotated, path("old.jsonl"))?;
        fs::copy(&log, path("new.jsonl"))?;
        fs::copy(log.with_extension("jsonl.key.pub"), path("audit.pub"))?;
        Ok(Self {
            decision: decision.to_owned(),
            folder,
        })
    }

    fn give(&self, lab: &mut Lab, command: &str) -> Result<()> {
        match command {
            "spinegate run" => {
                lab.stop_agent()?;
                return lab.start_agent();
            }
            "spinegate run --take-over" => return lab.take_over(),
            _ => {}
        }
        let endless = ["--follow", "--watch", "spinegate top"];
        let endless = endless.iter().any(|word| command.contains(word)) && !command.contains("--once");
        let own = self.folder.join("root");
        let command = ["/etc/", "/var/"]
            .iter()
            .fold(with_decision(command, &self.decision), |text, root| {
                text.replace(&format!(" {root}"), &format!(" {}{root}", own.display()))
            });
        let script = format!("cd {} && PATH=\"$PWD:$PATH\" && {command}", self.folder.display());
        let inside = lab.network().namespace(Host::Edge);
        let run = if endless {
            Run::inside(&inside, "timeout").args(["--signal=INT", FOLLOWED, "sh", "-c", &script])
        } else {
            Run::inside(&inside, "sh").args(["-c", &script])
        };
        let finished = run
            .within(Duration::from_secs(30))
            .env("SSH_CONNECTION", "")
            .output()?;
        let code = finished.code.context("it did not end in time")?;
        let allowed = ENDINGS
            .iter()
            .find(|(beginning, _)| command.starts_with(beginning));
        let allowed = allowed.map_or(&[0][..], |(_, codes)| codes);
        // 124 is what `timeout` says of what it interrupts.
        ensure!(
            allowed.contains(&code) || endless && code == 124,
            "exit code {code}: {}",
            finished.said()
        );
        ensure!(
            !finished.said().contains("Usage:"),
            "it is no command: {}",
            finished.said()
        );
        Ok(())
    }
}

/// The example's id stands for one that this lab knows.
fn with_decision(command: &str, decision: &str) -> String {
    let mut words: Vec<&str> = command.split(' ').collect();
    if let Some(at) = words.iter().position(|word| *word == "--decision")
        && let Some(id) = words.get_mut(at + 1)
    {
        *id = decision;
    }
    words.join(" ")
}

/// Every block that says it is for a shell. A comment at a line's end is none of the command, and a line that ends with a backslash
/// goes on.
fn blocks(page: &str, text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if line.trim() != "```sh" {
            continue;
        }
        let inside: Vec<&str> = lines
            .by_ref()
            .map(|(_, line)| line.trim())
            .take_while(|line| *line != "```")
            .collect();
        let joined = inside.join("\n").replace("\\\n", " ");
        let commands = joined
            .lines()
            .map(|line| line.split(" #").next().unwrap_or_default().trim())
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        blocks.push(Block {
            place: format!("{page}:{}", number + 1),
            commands: commands.map(str::to_owned).collect(),
        });
    }
    blocks
}

fn repository() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}
