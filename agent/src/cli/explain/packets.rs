//! `spinegate explain --packet` and `--pcap`

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;

use super::super::{
    Exit, Failure, Format, Place,
    output::{self, printable},
};
use crate::{
    capture::{CaptureError, CraftedPacket, Reader, Trial},
    control::{MAX_BODY, PacketExplanation, Request, Response},
};

/// Packets of a capture that are explained at once: more are read by nobody.
const MAX_PACKETS: usize = 1000;
/// What a call has besides its frames, in bytes.
const CALL: u64 = 256;

/// A packet, and what is said about it.
#[derive(Debug, Serialize)]
struct Judged {
    /// Counted from 1, as in other tools.
    number: usize,
    /// What the filter would do.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    explanation: Option<PacketExplanation>,
    /// What the reader has to know about that.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

/// Explains packets that were written by hand.
pub(super) fn crafted(place: &Place, packets: &[CraftedPacket], format: Format) -> Result<Exit, Failure> {
    let trials = packets.iter().map(|packet| (Trial::Whole(packet.frame()), None));
    print(&judge(place, trials.collect())?, format)
}

/// Explains the packets of a capture.
pub(super) fn captured(place: &Place, path: &Path, format: Format) -> Result<Exit, Failure> {
    let mut frames = Reader::open(path).map_err(unread)?;
    let mut trials = Vec::new();
    for frame in frames.by_ref().take(MAX_PACKETS) {
        let frame = match frame {
            Ok(frame) => frame,
            // What came before is whole, as in a capture whose writer was killed.
            Err(error @ CaptureError::BrokenOff) if !trials.is_empty() => {
                output::note(&error.to_string());
                break;
            }
            Err(error) => return Err(unread(error)),
        };
        let trial = Trial::of(&frame);
        let sizes = format!("{} of {} bytes were captured", frame.bytes.len(), frame.length);
        let note = match trial {
            Trial::Whole(_) => None,
            Trial::Filled(_) => Some(format!(
                "{sizes}, all headers among them: judged with zeros for the rest"
            )),
            Trial::HeadersCut => Some(format!(
                "{sizes}, too few to judge the packet that it was: capture with a larger snapshot length"
            )),
            Trial::TooLong => Some(format!(
                "{sizes}: a frame this long was put together after the filter, and can't be judged; capture without offloads"
            )),
        };
        trials.push((trial, note));
    }
    if trials.len() == MAX_PACKETS && frames.next().is_some() {
        output::note(&format!(
            "the capture has more than {MAX_PACKETS} packets: the first {MAX_PACKETS} are explained"
        ));
    }
    print(&judge(place, trials)?, format)
}

/// Asks the agent, in calls that are as long as they may be.
fn judge(place: &Place, trials: Vec<(Trial, Option<String>)>) -> Result<Vec<Judged>, Failure> {
    let mut judged = Vec::new();
    let mut asked: Vec<(usize, String)> = Vec::new();
    let mut length = CALL;
    for (index, (trial, note)) in trials.into_iter().enumerate() {
        judged.push(Judged {
            number: index + 1,
            explanation: None,
            note,
        });
        let (Trial::Whole(frame) | Trial::Filled(frame)) = trial else {
            continue;
        };
        let frame = STANDARD.encode(frame);
        // With its quotation marks and a comma.
        let more = frame.len() as u64 + 3;
        if length + more > MAX_BODY {
            ask(place, &mut judged, std::mem::take(&mut asked))?;
            length = CALL;
        }
        length += more;
        asked.push((index, frame));
    }
    ask(place, &mut judged, asked)?;
    Ok(judged)
}

fn ask(place: &Place, judged: &mut [Judged], asked: Vec<(usize, String)>) -> Result<(), Failure> {
    if asked.is_empty() {
        return Ok(());
    }
    let (numbers, frames): (Vec<usize>, Vec<String>) = asked.into_iter().unzip();
    let Response::Packets(explanations) = place.ask(Request::ExplainPackets { frames })? else {
        return Err(Failure::other_answer());
    };
    if explanations.len() != numbers.len() {
        return Err(Failure::other_answer());
    }
    for (index, explanation) in numbers.into_iter().zip(explanations) {
        if let Some(judged) = judged.get_mut(index) {
            judged.explanation = Some(explanation);
        }
    }
    Ok(())
}

fn print(judged: &[Judged], format: Format) -> Result<Exit, Failure> {
    if format.json {
        return output::json(&judged);
    }
    let texts: Vec<String> = judged.iter().map(render).collect();
    output::text(&texts.join("\n"))
}

fn render(judged: &Judged) -> String {
    let mut lines = Vec::new();
    match &judged.explanation {
        Some(explanation) => {
            lines.push(format!("{}: {}", judged.number, explanation.packet));
            let outcome = explanation.outcome.replace('_', " ");
            lines.push(format!(
                "   {outcome}, decided at {}: {}",
                explanation.step, explanation.reason
            ));
            lines.push(format!("   {}", explanation.meaning));
            lines.extend(explanation.mend.as_ref().map(|mend| format!("   mend: {mend}")));
            lines.push(format!("   service: {}", explanation.service));
            lines.extend(
                explanation
                    .entry
                    .as_ref()
                    .map(|entry| format!("   entry: {entry}")),
            );
        }
        None => lines.push(format!("{}: not judged", judged.number)),
    }
    lines.extend(judged.note.as_ref().map(|note| format!("   note: {note}")));
    lines
        .iter()
        .map(|line| format!("{}\n", printable(line)))
        .collect()
}

fn unread(error: CaptureError) -> Failure {
    Failure::new(Exit::Refused, error.to_string())
}
