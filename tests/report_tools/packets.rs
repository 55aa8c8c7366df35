//! The pcapng read back with tshark, field by field.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use libtest_mimic::Failed;
use serde_json::Value;

use super::{hostile, recording, report};

const NAME: &str = "07-info.rec";

/// Prints these fields of every packet, one packet per row; what tshark complains of is an error.
fn tshark(file: &Path, fields: &[&str]) -> Result<Vec<Vec<String>>, Failed> {
    let mut command = Command::new("tshark");
    command.args([
        "-n",
        "-o",
        "tcp.analyze_sequence_numbers:FALSE",
        "-T",
        "fields",
        "-E",
        "separator=/t",
        "-r",
    ]);
    command.arg(file).args(fields.iter().flat_map(|field| ["-e", field]));
    let output = command.output()?;
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    let complaints: Vec<&str> =
        complaints.lines().filter(|line| !line.starts_with("Running as user") && !line.is_empty()).collect();
    if !output.status.success() || !complaints.is_empty() {
        return Err(format!("tshark: {complaints:?}").into());
    }
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
}

/// Headers of the resets of all verdicts that name a captured one, by sequence number.
fn resets() -> BTreeMap<u64, Value> {
    let text = fs::read_to_string(recording(NAME).with_extension("ndjson")).unwrap();
    let verdicts = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let received = verdicts.filter(|verdict| {
        verdict["kind"] == "reset_received"
            && !verdict["reset"]["ttl"].is_null()
            && verdict["packets"] != Value::Array(Vec::new())
    });
    received.map(|verdict| (verdict["reset"]["seq"].as_u64().unwrap(), verdict)).collect()
}

pub fn fields() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let file = report(&recording(NAME), folder.path(), "a.pcapng", &["--include-harmless"]);
    let names = [
        "frame.time_epoch",
        "frame.len",
        "frame.cap_len",
        "ip.src",
        "ipv6.src",
        "tcp.srcport",
        "tcp.flags.reset",
        "tcp.seq_raw",
        "tcp.window_size_value",
        "ip.ttl",
        "ipv6.hlim",
        "_ws.malformed",
        "tcp.len",
    ];
    let rows = tshark(&file, &names)?;
    assert!(rows.len() >= 30, "{} packets", rows.len());
    let mut resets = resets();
    for row in &rows {
        let number = |at: usize| row.get(at).and_then(|text| text.parse::<u64>().ok());
        let (time, wire, captured) = (&row[0], number(1).unwrap(), number(2).unwrap());
        assert_eq!(time.split('.').nth(1).map(str::len), Some(9), "{time}");
        assert!(captured <= wire && captured <= 112, "{row:?}");
        assert_eq!(row[11], "", "malformed: {row:?}");
        assert_eq!(wire - captured, number(12).unwrap(), "only payload is cut off: {row:?}");
        if row[6] != "1" && row[6] != "True" {
            continue;
        }
        let Some(verdict) = resets.remove(&number(7).unwrap()) else { continue };
        let reset = &verdict["reset"];
        assert_eq!(reset["window"].as_u64(), number(8), "{verdict}");
        assert_eq!(reset["ttl"].as_u64(), number(9).or(number(10)), "{verdict}");
        let source = format!("{}{}", row[3], row[4]);
        assert!(verdict["connection"]["remote"].as_str().unwrap().contains(&source), "{source}: {verdict}");
    }
    assert!(resets.is_empty(), "resets without a packet: {:?}", resets.keys());
    Ok(())
}

pub fn words() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let file = report(&recording(NAME), folder.path(), "a.pcapng", &[]);
    let rows = tshark(&file, &["frame.comment", "frame.interface_name", "frame.interface_description"])?;
    assert!(!rows.is_empty());
    let deciding = rows.iter().filter(|row| row[0].contains("This packet decides: ")).count();
    assert!(deciding >= 10, "{deciding}");
    for row in &rows {
        assert!(row[0].contains("Incident 01") && row[0].contains("TTL "), "{row:?}");
        let rebuilt = row[1] == "rebuilt";
        assert_eq!(row[0].starts_with("NOT CAPTURED"), rebuilt, "{row:?}");
        let described = if rebuilt { "not captured" } else { "network namespace 40" };
        assert!(!row[1].is_empty() && row[2].contains(described), "{row:?}");
    }
    let bytes = fs::read(&file)?;
    let text = String::from_utf8_lossy(&bytes);
    for words in [
        "\"rstscope\":\"verdict\"",
        "\"rstscope\":\"evidence\"",
        "\"code\":\"peer_alive\"",
        "nginx-vm",
        "upstream-10-77-5-27",
    ] {
        assert!(text.contains(words), "{words}");
    }
    Ok(())
}

/// Names, comments and process names from outside change neither the packets nor what surrounds them.
pub fn hostile() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let input = folder.path().join("a.rec");
    fs::write(&input, hostile::recorded())?;
    let fields =
        ["frame.time_epoch", "frame.cap_len", "tcp.seq_raw", "frame.comment", "frame.interface_name"];
    let read = |input: &Path, name: &str| {
        tshark(&report(input, folder.path(), name, &["--include-harmless"]), &fields)
    };
    let (plain, attacked) = (read(&recording(NAME), "a.pcapng")?, read(&input, "b.pcapng")?);
    assert!(attacked.len() >= 30, "{} packets", attacked.len());
    let headers = |rows: &[Vec<String>]| -> Vec<Vec<String>> {
        rows.iter().filter(|row| row[4] != "rebuilt").map(|row| row[..3].to_vec()).collect()
    };
    assert_eq!(headers(&attacked), headers(&plain));
    for row in &attacked {
        assert_eq!(row.len(), fields.len(), "{row:?}");
        assert!(row[3].contains("Incident 01") && !row[3].chars().any(char::is_control), "{row:?}");
    }
    Ok(())
}
