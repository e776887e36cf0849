//! What systemd is told of the agent (`sd_notify(3)`). Without systemd nothing is said, and nothing is missing.

use std::{
    io::{self, Read as _},
    os::fd::AsFd as _,
    os::unix::net::UnixStream,
    time::Duration,
};

use sd_notify::NotifyState;

/// The time between two signs of life where systemd has not said how often it wants one: an agent that takes over is not
/// told, but the one before it was.
const PULSE: Duration = Duration::from_secs(5);
/// How long systemd may take to read what it was told.
const PATIENCE: Duration = Duration::from_secs(5);

/// The agent serves: the filter is in force, and connections are accepted.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// This process serves, and no longer the one that systemd has started. Returns when systemd knows, so that the end of the
/// other one is not taken for the service's.
pub fn ready_as_successor(status: &str) {
    tell(&[
        NotifyState::MainPid(std::process::id()),
        NotifyState::Ready,
        NotifyState::Status(status),
    ]);
    if let Err(error) = barrier() {
        tracing::warn!(%error, "systemd may not know of this process yet");
    }
}

/// The agent ends of its own accord or at a signal, within a time.
pub fn stopping(within: Duration) {
    let within = u32::try_from((within + PATIENCE).as_micros()).unwrap_or(u32::MAX);
    tell(&[
        NotifyState::Stopping,
        NotifyState::ExtendTimeoutUsec(within),
        NotifyState::Status("finishing the requests under way; the filter stays in force"),
    ]);
}

/// The agent works.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// The agent does not work as it should.
pub fn ailing(fault: &str) {
    tell(&[NotifyState::Status(fault)]);
}

/// How often [`alive`] is to be said: thrice in the time after which systemd ends an agent that is silent.
#[must_use]
pub fn pulse() -> Duration {
    sd_notify::watchdog_enabled().map_or(PULSE, |limit| limit / 3)
}

/// The configuration is being read again, until this is dropped.
#[derive(Debug)]
pub struct Reloading(());

impl Reloading {
    /// From here on.
    #[must_use]
    pub fn begin() -> Self {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(_) => tell(&[NotifyState::Reloading]),
        }
        Self(())
    }
}

impl Drop for Reloading {
    fn drop(&mut self) {
        tell(&[NotifyState::Ready]);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}

/// Waits until systemd has read all that was told: it then closes what it gets here.
fn barrier() -> io::Result<()> {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return Ok(());
    }
    let (mut here, there) = UnixStream::pair()?;
    sd_notify::notify_with_fds(&[NotifyState::Custom("BARRIER=1")], &[there.as_fd()])?;
    drop(there);
    here.set_read_timeout(Some(PATIENCE))?;
    here.read(&mut [0]).map(drop)
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        os::unix::net::UnixDatagram,
        process::{Command, Stdio},
    };

    use nix::time::{ClockId, clock_gettime};

    use super::*;

    /// What is said is said by a process of the test's own: the environment is of a whole process.
    const SPEAKER: &str = "SPINEGATE_TEST_SPEAKS_TO_SYSTEMD";
    const NAME: &str = "service::tests::systemd_is_told_in_its_own_words";

    #[test]
    fn systemd_is_told_in_its_own_words() {
        if env::var_os(SPEAKER).is_some() {
            return speak();
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        systemd.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let before = clock();
        let mut speaker = Command::new(env::current_exe().unwrap())
            .args(["--exact", NAME])
            .env(SPEAKER, "")
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "30000000")
            .env_remove("WATCHDOG_PID")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut heard = Vec::new();
        while heard.len() < 8 {
            // What comes with a message is closed by the kernel, as nobody takes it: so is the barrier.
            let mut bytes = [0; 1024];
            let length = systemd.recv(&mut bytes).unwrap();
            heard.push(str::from_utf8(&bytes[..length]).unwrap().to_owned());
        }
        assert!(speaker.wait().unwrap().success());
        let reloading = heard.remove(4);
        let successor = format!("MAINPID={}\nREADY=1\nSTATUS=serving too\n", speaker.id());
        assert_eq!(
            heard,
            [
                "READY=1\nSTATUS=serving\n",
                &successor,
                "BARRIER=1\n",
                "WATCHDOG=1\n",
                "READY=1\n",
                "STATUS=ailing\n",
                "STOPPING=1\nEXTEND_TIMEOUT_USEC=15000000\nSTATUS=finishing the requests under way; the filter stays \
                 in force\n",
            ]
        );
        let at = reloading
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .and_then(|at| at.strip_suffix('\n')?.parse::<u128>().ok())
            .unwrap_or_else(|| panic!("{reloading}"));
        assert!((before..=clock()).contains(&at), "{reloading}");
    }

    fn speak() {
        ready("serving");
        ready_as_successor("serving too");
        alive();
        drop(Reloading::begin());
        ailing("ailing");
        stopping(Duration::from_secs(10));
        // The watchdog's limit is told by systemd.
        assert_eq!(pulse(), Duration::from_secs(10));
    }

    /// Microseconds, as systemd counts them.
    fn clock() -> u128 {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
        Duration::from(now).as_micros()
    }
}
