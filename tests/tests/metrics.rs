//! What the agent tells whoever watches it: metrics that Prometheus and promtool have no fault to find with, alerts that arise
//! from them, and whether it is ready.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use spinegate_tests::{
    client::{Message, NHS_NUMBER, pointer},
    command::Run,
    expect::{allowed, created, refused},
    json::at,
    lab::{Background, CONSUMER, Interaction, Lab, PROVIDER, System, UNKNOWN_ASID, open_metrics, section},
    netns::Host,
    pki::{SSP_FQDN, Validity},
    sds,
    small_disk::SmallDisk,
    suite::Suite,
    tools,
    wait::wait_for,
};

const AGENT: &str = "127.0.0.1:9464";
const PROMETHEUS: &str = "127.0.0.1:9090";
const RULES: &str = "packaging/prometheus";
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    Suite {
        name: "metrics",
        edit: open_metrics,
        tests: spinegate_tests::tests![
            promtool_has_no_fault_to_find,
            nobody_who_asks_becomes_a_label,
            each_alert_fires_when_it_should_and_not_before,
            prometheus_scrapes_the_agent_and_alerts_when_it_is_gone,
            it_is_ready_unless_the_filter_is_off_its_interface,
            it_is_not_ready_without_an_upstream,
            it_is_not_ready_without_a_crl_that_counts,
            it_is_not_ready_without_a_source_of_the_registry,
            it_is_not_ready_while_nothing_can_be_recorded_or_once_it_stops,
        ],
    }
    .run()
}

fn promtool_has_no_fault_to_find(lab: &mut Lab) -> Result<()> {
    some_of_everything(lab)?;
    let text = lab.metrics()?;
    let checked = Run::new(promtool()?)
        .args(["check", "metrics"])
        .stdin(text.clone())
        .output()?;
    ensure!(
        checked.code == Some(0) && checked.said().is_empty(),
        "{}",
        checked.said()
    );
    // It would have found this one.
    let faulty = Run::new(promtool()?)
        .args(["check", "metrics"])
        .stdin(text.replace("spinegate_refusals_total", "spinegate_refusals"))
        .output()?;
    ensure!(faulty.said().contains("spinegate_refusals"), "{}", faulty.said());
    Ok(())
}

fn nobody_who_asks_becomes_a_label(lab: &mut Lab) -> Result<()> {
    let before = series(&lab.metrics()?);
    some_of_everything(lab)?;
    let text = lab.metrics()?;
    ensure!(
        series(&text) == before,
        "there were {before} series, and then {}",
        series(&text)
    );
    let client = Host::Ssp.v4().to_string();
    for secret in [CONSUMER.asid, UNKNOWN_ASID, CONSUMER.ods, NHS_NUMBER, &client] {
        ensure!(!text.contains(secret), "{secret} is in the metrics");
    }
    Ok(())
}

fn each_alert_fires_when_it_should_and_not_before(_: &mut Lab) -> Result<()> {
    let tried = Run::new("nice")
        .arg(promtool()?)
        .args(["test", "rules"])
        .arg(repository(&format!("{RULES}/spinegate.rules.test.yml")))
        .within(Duration::from_secs(120))
        .success()?;
    ensure!(tried.contains("SUCCESS"), "{tried}");
    Ok(())
}

fn prometheus_scrapes_the_agent_and_alerts_when_it_is_gone(lab: &mut Lab) -> Result<()> {
    some_of_everything(lab)?;
    let prometheus = start_prometheus(lab)?;
    let watched = watched_by(lab);
    prometheus.kill()?;
    watched
}

fn watched_by(lab: &mut Lab) -> Result<()> {
    wait_for("Prometheus to have scraped the agent", PATIENCE, || {
        Ok(query(lab, "spinegate_filter_attached")?.filter(|value| value == "1"))
    })?;
    let refused = query(lab, "spinegate_refusals_total{reason=\"asid_unknown\"}")?;
    ensure!(refused.is_some_and(|count| count != "0"));
    let targets: Value = serde_json::from_str(&api(lab, "targets")?)?;
    let target = at(&targets, "/data/activeTargets/0");
    ensure!(
        *at(target, "/health") == "up" && *at(target, "/lastError") == "",
        "{target}"
    );
    let rules: Value = serde_json::from_str(&api(lab, "rules")?)?;
    for group in at(&rules, "/data/groups").as_array().context("no groups")? {
        for rule in at(group, "/rules").as_array().context("no rules")? {
            ensure!(*at(rule, "/health") == "ok", "{rule}");
            ensure!(*at(rule, "/state") == "inactive", "{rule}");
        }
    }
    lab.stop_agent()?;
    let gone = wait_for("an alert of the agent's end", PATIENCE, || {
        query(lab, "ALERTS{alertname=\"SpinegateDown\"}")
    });
    lab.start_agent()?;
    gone.map(drop)
}

fn it_is_ready_unless_the_filter_is_off_its_interface(lab: &mut Lab) -> Result<()> {
    ensure!(page(lab, "/healthz")? == ("200".to_owned(), "ok\n".to_owned()));
    let (status, body) = page(lab, "/readyz")?;
    ensure!(status == "200", "{status}: {body}");
    let ready: Value = serde_json::from_str(&body)?;
    ensure!(*at(&ready, "/ready") == true, "{body}");

    lab.agent().order(&["detach"])?;
    let (status, body) = page(lab, "/readyz")?;
    let alive = page(lab, "/healthz")?.0;
    lab.agent().order(&["attach"])?;
    ensure!(status == "503" && alive == "200", "{status}: {body}; {alive}");
    lacks_alone("filter", &body)?;
    ensure!(page(lab, "/readyz")?.0 == "200");
    Ok(())
}

fn it_is_not_ready_without_an_upstream(lab: &mut Lab) -> Result<()> {
    let id = created(lab, &pointer(PROVIDER.ods, NHS_NUMBER))?;
    lab.kill_locator()?;
    let read = || Message::read(&id).from(&CONSUMER);
    let unready = wait_for("the upstream to be ejected", PATIENCE, || {
        lab.client(Host::Ssp).send(&read())?;
        let (status, body) = page(lab, "/readyz")?;
        Ok((status == "503").then_some(body))
    });
    lab.start_locator()?;
    lacks_alone("upstream", &unready?)?;
    let text = lab.metrics()?;
    ensure!(text.contains("spinegate_ready{need=\"audit\"} 1\n"), "{text}");
    wait_for("the gateway to be ready again", PATIENCE, || {
        lab.client(Host::Ssp).send(&read())?;
        Ok((page(lab, "/readyz")?.0 == "200").then_some(()))
    })
}

fn it_is_not_ready_without_a_crl_that_counts(lab: &mut Lab) -> Result<()> {
    lab.pki().publish_crls(Validity::days(-30, -1))?;
    lab.agent().order(&["reload"])?;
    let (_, body) = page(lab, "/readyz")?;
    lab.pki().publish_crls(Validity::days(-1, 30))?;
    lab.agent().order(&["reload"])?;
    lacks_alone("crl", &body)?;
    ensure!(page(lab, "/readyz")?.0 == "200");
    Ok(())
}

fn it_is_not_ready_without_a_source_of_the_registry(lab: &mut Lab) -> Result<()> {
    let folder = lab.files().folder().join("sds");
    let bundles = folder.join("bundles");
    fs::create_dir_all(&bundles)?;
    let bundle = bundles.join("systems.json");
    fs::write(&bundle, "{")?;
    let before = fs::read_to_string(lab.files().config())?;
    lab.reconfigure(|table| {
        let registry = section(table, "registry");
        registry.insert("max_age".into(), "1s".into());
        registry.insert(
            "state_dir".into(),
            folder.join("state").display().to_string().into(),
        );
        let bundles = vec![bundles.display().to_string()];
        section(registry, "sds").insert("bundles".into(), bundles.into());
    })?;
    let nothing = page(lab, "/readyz")?.1;
    let (party, search) = ("P1-000001", Interaction::Search);
    let systems = sds::bundle(vec![
        sds::device("200000009999", PROVIDER.ods, party, search),
        sds::endpoint(SSP_FQDN, party),
    ]);
    fs::write(&bundle, systems.to_string())?;
    lab.agent().order(&["registry", "sync", "sds"])?;
    let old = wait_for("the snapshot to be too old", PATIENCE, || {
        let body = page(lab, "/readyz")?.1;
        Ok(body.contains("too old").then_some(body))
    });
    fs::write(lab.files().config(), before)?;
    lab.agent().order(&["reload"])?;
    lacks_alone("registry", &nothing)?;
    ensure!(nothing.contains("gave nothing yet"), "{nothing}");
    lacks_alone("registry", &old?)?;
    ensure!(page(lab, "/readyz")?.0 == "200");
    Ok(())
}

fn it_is_not_ready_while_nothing_can_be_recorded_or_once_it_stops(lab: &mut Lab) -> Result<()> {
    let before = fs::read_to_string(lab.files().config())?;
    let disk = SmallDisk::under(lab)?;
    disk.fill()?;
    let search = Message::search(NHS_NUMBER).from(&CONSUMER);
    let withheld = wait_for("an answer to be withheld", PATIENCE, || {
        let answer = lab.client(Host::Ssp).answer(&search)?;
        Ok((answer.status == 500).then_some(()))
    });
    let (_, body) = page(lab, "/readyz")?;
    disk.make_room()?;
    withheld?;
    lacks_alone("audit", &body)?;
    allowed(lab, &search, 200)?;
    ensure!(page(lab, "/readyz")?.0 == "200");

    // A request of which a part is to come keeps the agent from ending.
    let create = Message::create(&pointer(PROVIDER.ods, NHS_NUMBER)).from(&PROVIDER);
    let whole = create.bytes();
    let (now, later) = whole.split_at(whole.len() - 40);
    let mut line = lab.client(Host::Ssp).line()?;
    line.send(now)?;
    allowed(lab, &search, 200)?;
    lab.agent_process()?.signal(Signal::SIGTERM)?;
    let stops = wait_for("the agent to stop", PATIENCE, || {
        let (status, body) = page(lab, "/readyz")?;
        Ok((status == "503").then_some(body))
    });
    line.send(later)?;
    let answered = line.reply()?.status;
    lab.agent_ended(PATIENCE)?;
    fs::write(lab.files().config(), before)?;
    lab.start_agent()?;
    ensure!(answered == 201, "{answered}");
    lacks_alone("not_draining", &stops?)
}

/// Whether `/readyz` says that one thing does not hold, and no other.
fn lacks_alone(need: &str, body: &str) -> Result<()> {
    let said: Value = serde_json::from_str(body)?;
    let reasons = at(&said, "/reasons").as_array().map_or(0, Vec::len);
    ensure!(
        *at(&said, "/ready") == false && reasons == 1 && *at(&said, "/reasons/0/need") == need,
        "not {need}: {body}"
    );
    Ok(())
}

/// One request that is allowed, one that is refused, and a client that is unknown.
fn some_of_everything(lab: &Lab) -> Result<()> {
    let id = created(lab, &pointer(PROVIDER.ods, NHS_NUMBER))?;
    allowed(lab, &Message::read(&id).from(&CONSUMER), 200)?;
    let unknown = System {
        asid: UNKNOWN_ASID,
        ..CONSUMER
    };
    refused(lab, &Message::read(&id).from(&unknown), 400, "asid_unknown")?;
    Ok(())
}

fn start_prometheus(lab: &Lab) -> Result<Background> {
    let folder = lab.files().folder().join("prometheus");
    fs::create_dir_all(&folder)?;
    let config = folder.join("prometheus.yml");
    let rules = repository(&format!("{RULES}/spinegate.rules.yml"));
    fs::write(
        &config,
        format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: ['{}']\n\
             scrape_configs: [{{job_name: spinegate, static_configs: [{{targets: ['{AGENT}']}}]}}]\n",
            rules.display()
        ),
    )?;
    let run = Run::inside(
        &lab.network().namespace(Host::Edge),
        tools::peer("prometheus/usr/bin/prometheus")?,
    )
    .arg(format!("--config.file={}", config.display()))
    .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
    .arg(format!("--web.listen-address={PROMETHEUS}"));
    let mut process = Background::start("prometheus", &run, lab.files())?;
    let ready = wait_for("Prometheus to be ready", PATIENCE, || {
        process.must_run()?;
        Ok(get(lab, PROMETHEUS, "/-/ready")
            .ok()
            .filter(|(status, _)| status == "200"))
    });
    if let Err(error) = ready {
        let tail = process.tail();
        process.kill()?;
        return Err(error.context(tail));
    }
    Ok(process)
}

/// The first value that a query has, if it has any.
fn query(lab: &Lab, expression: &str) -> Result<Option<String>> {
    let answer = Run::inside(&lab.network().namespace(Host::Edge), "curl")
        .args(["-sS", "--get", "--data-urlencode"])
        .arg(format!("query={expression}"))
        .arg(format!("http://{PROMETHEUS}/api/v1/query"))
        .success()?;
    let answer: Value = serde_json::from_str(&answer)?;
    Ok(at(&answer, "/data/result/0/value/1").as_str().map(str::to_owned))
}

fn api(lab: &Lab, what: &str) -> Result<String> {
    Ok(get(lab, PROMETHEUS, &format!("/api/v1/{what}"))?.1)
}

fn page(lab: &Lab, path: &str) -> Result<(String, String)> {
    get(lab, AGENT, path)
}

fn get(lab: &Lab, address: &str, path: &str) -> Result<(String, String)> {
    let answer = Run::inside(&lab.network().namespace(Host::Edge), "curl")
        .args(["-sS", "-w", "\n%{http_code}", &format!("http://{address}{path}")])
        .success()?;
    let (body, status) = answer.rsplit_once('\n').context("curl says no status")?;
    Ok((status.to_owned(), body.to_owned()))
}

fn series(text: &str) -> usize {
    text.lines().filter(|line| !line.starts_with('#')).count()
}

fn promtool() -> Result<PathBuf> {
    tools::peer("prometheus/usr/bin/promtool")
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
