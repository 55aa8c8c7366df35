//! Pages in a headless Chromium, driven through chromedriver (W3C `WebDriver`) on the loopback interface.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use libtest_mimic::Failed;
use serde_json::{Value, json};

use super::{hostile, recording, report};

/// A browser with one page. It ends with this value.
struct Browser {
    driver: Child,
    /// The driver ends when nobody reads what it says.
    _said: BufReader<ChildStdout>,
    port: u16,
    session: String,
}

impl Browser {
    fn open(page: &Path, width: u32, height: u32) -> Result<Self, Failed> {
        let mut driver = Command::new("chromedriver")
            .args(["--port=0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let (said, port) = port_of(&mut driver)?;
        let mut browser = Self { driver, _said: said, port, session: String::new() };
        let options = json!({
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
                format!("--window-size={width},{height}")],
            "perfLoggingPrefs": {"enableNetwork": true},
        });
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }}});
        let made = browser.post("/session", &wanted)?;
        made["sessionId"].as_str().ok_or("no session")?.clone_into(&mut browser.session);
        browser.call("url", &json!({"url": format!("file://{}", page.display())}))?;
        Ok(browser)
    }

    /// A command of the session.
    fn call(&self, command: &str, body: &Value) -> Result<Value, Failed> {
        self.post(&format!("/session/{}/{command}", self.session), body)
    }

    fn run(&self, script: &str) -> Result<Value, Failed> {
        self.call("execute/sync", &json!({"script": script, "args": []}))
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value, Failed> {
        self.request("POST", path, &body.to_string())
    }

    fn request(&self, method: &str, path: &str, body: &str) -> Result<Value, Failed> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_mins(1)))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.port,
            body.len()
        )?;
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse()?;
            }
        }
        let mut bytes = vec![0; length];
        reader.read_exact(&mut bytes)?;
        let answer: Value = serde_json::from_slice(&bytes)?;
        match answer["value"]["error"].as_str() {
            Some(error) => Err(format!("{path}: {error}: {}", answer["value"]["message"]).into()),
            None => Ok(answer["value"].clone()),
        }
    }

    /// What the console said, and the addresses that were asked for.
    fn noticed(&self) -> Result<(Vec<String>, Vec<String>), Failed> {
        let entries = |kind: &str| self.call("se/log", &json!({"type": kind}));
        let text = |entry: &Value| entry["message"].as_str().unwrap_or_default().to_owned();
        let said = entries("browser")?.as_array().ok_or("no console")?.iter().map(text).collect();
        let network = entries("performance")?;
        let asked = network.as_array().ok_or("no network log")?.iter().filter_map(|entry| {
            let event: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let sent = event["message"]["method"] == "Network.requestWillBeSent";
            sent.then(|| event["message"]["params"]["request"]["url"].as_str().unwrap_or_default().to_owned())
        });
        Ok((said, asked.collect()))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let _ended = self.request("DELETE", &format!("/session/{}", self.session), "");
        }
        let _killed = self.driver.kill();
        let _reaped = self.driver.wait();
    }
}

/// `ChromeDriver was started successfully on port 12345.`
fn port_of(driver: &mut Child) -> Result<(BufReader<ChildStdout>, u16), Failed> {
    let mut said = BufReader::new(driver.stdout.take().ok_or("no output")?);
    let mut line = String::new();
    while said.read_line(&mut line)? > 0 {
        if let Some((_, port)) = line.rsplit_once("started successfully on port ") {
            return Ok((said, port.trim().trim_end_matches('.').parse()?));
        }
        line.clear();
    }
    Err("chromedriver did not start".into())
}

pub fn hostile() -> Result<(), Failed> {
    attacked("attacks.ndjson", &hostile::verdicts())
}

/// The name of the file is an attack, too.
pub fn hostile_recording() -> Result<(), Failed> {
    attacked("<svg onload=document.documentElement.dataset.owned=1>.rec", &hostile::recorded())
}

/// Nothing that the input brought is an element, runs, or asks for anything; all of it is shown.
fn attacked(name: &str, bytes: &[u8]) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let input = folder.path().join(name);
    fs::write(&input, bytes)?;
    let page = report(&input, folder.path(), "a.html", &["--include-harmless", "--top", "60"]);
    let browser = Browser::open(&page, 1280, 900)?;
    let owned = browser.run("return document.documentElement.dataset.owned || document.querySelectorAll('img,iframe,base,link').length || null")?;
    assert_eq!(owned, Value::Null);
    assert_eq!(browser.run("return document.scripts.length")?, 1);
    assert_eq!(browser.run("return getComputedStyle(document.body).display")?, "block");
    let shown = browser.run("return document.body.textContent.includes('<svg/onload=')")?;
    assert_eq!(shown, true, "the attack is shown as text");
    let wide =
        browser.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth")?;
    assert_eq!(wide, 0, "nothing breaks the layout");
    let (said, asked) = browser.noticed()?;
    assert_eq!(said, Vec::<String>::new());
    assert!(asked.iter().all(|url| url.starts_with("file://") && url.ends_with("/a.html")), "{asked:?}");
    Ok(())
}

pub fn search() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let page = report(&recording("00-error.rec"), folder.path(), "a.html", &[]);
    let browser = Browser::open(&page, 1280, 900)?;
    let rows =
        "return [...document.querySelectorAll('#all tbody tr')].filter(row => row.checkVisibility()).length";
    let all = browser.run(rows)?.as_u64().ok_or("no rows")?;
    let input =
        browser.call("element", &json!({"using": "css selector", "value": "#all input[type=search]"}))?;
    let id =
        input.as_object().and_then(|one| one.values().next()).and_then(Value::as_str).ok_or("no search")?;
    browser.call(&format!("element/{id}/value"), &json!({"text": "Process_Exit proven"}))?;
    let found = browser.run(rows)?.as_u64().ok_or("no rows")?;
    assert!(found > 0 && found < all, "{found} of {all}");
    let said = browser.run("return document.querySelector('#all output').textContent")?;
    assert_eq!(said, format!("{found} of {all} rows"));
    browser.run("document.querySelector('button[data-select]').click()")?;
    let selected = browser.run("return String(getSelection())")?;
    assert!(selected.as_str().unwrap_or_default().contains("Attributed to"), "{selected}");
    let unnamed = browser.run(
        "return [...document.querySelectorAll('input,button,[role=region],svg[role=img],section')].filter(one => \
         !(one.labels?.length || one.ariaLabel || one.getAttribute('aria-labelledby') || one.textContent.trim())).length",
    )?;
    assert_eq!(unnamed, 0, "every control and region has a name");
    Ok(())
}

pub fn narrow_and_print() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let page = report(&recording("07-info.rec"), folder.path(), "a.html", &[]);
    let browser = Browser::open(&page, 390, 844)?;
    browser.call(
        "goog/cdp/execute",
        &json!({"cmd": "Emulation.setDeviceMetricsOverride",
        "params": {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": true}}),
    )?;
    let wide =
        browser.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth")?;
    assert_eq!(wide, 0, "nothing is wider than the screen");
    let steps =
        browser.run("return document.querySelector('.ladder .steps').getBoundingClientRect().height > 50")?;
    assert_eq!(steps, true, "the steps of the ladder are a list on a narrow screen");
    let pdf = browser.call("print", &json!({"page": {"width": 21.0, "height": 29.7}}))?;
    // Base64 of `%PDF-`.
    assert!(pdf.as_str().is_some_and(|pdf| pdf.starts_with("JVBERi") && pdf.len() > 50_000));
    let (said, _) = browser.noticed()?;
    assert_eq!(said, Vec::<String>::new());
    Ok(())
}
