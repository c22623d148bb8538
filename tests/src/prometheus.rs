//! A real Prometheus beside a site: scrapes its gateway each second, and evaluates the rules that are committed.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use crate::{Program, Site, free_ports, until, web};

const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/prometheus/rules.yml");

/// What an expression gave over the time that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// No sample, or none that is a number.
    Nothing,
    /// Zeros.
    Zeros,
    /// At least one number that is not zero.
    Numbers,
}

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    port: u16,
    began: f64,
    /// The gateway, as its series have it.
    pub instance: String,
    _program: Program,
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |out, byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => out + &char::from(byte).to_string(),
        _ => out + &format!("%{byte:02X}"),
    })
}

impl Prometheus {
    /// Starts it and waits until it has seen the gateway. `absent` is a target of the same job where nobody listens.
    pub fn start(site: &Site, absent: u16) -> Self {
        let [port] = free_ports();
        let instance = format!("127.0.0.1:{}", site.http);
        let rules = Path::new(RULES).canonicalize().unwrap();
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\nrule_files: [\"{}\"]\n\
             scrape_configs:\n  - job_name: windlass\n    static_configs:\n      - targets: [\"{instance}\", \"127.0.0.1:{absent}\"]\n",
            rules.display()
        );
        let file = site.path("prometheus.yml");
        fs::write(&file, config).unwrap();
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", site.path("prometheus").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .current_dir(site.path(""));
        let log = site.path("prometheus.log");
        let program = Program::start(&mut command, &log);
        let prometheus = Self { port, began: now(), instance, _program: program };
        let up = format!("up{{instance=\"{}\"}}", prometheus.instance);
        until("Prometheus has seen the gateway", || {
            prometheus.get("query", &[("query", &up)]).ok().filter(|data| data["result"][0]["value"][1] == "1")
        });
        prometheus
    }

    /// The data of an answer, or Prometheus's own words on what is wrong.
    pub fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let query: Vec<String> = parameters.iter().map(|(key, value)| format!("{key}={}", escaped(value))).collect();
        // HTTP/1.0: an answer in one piece.
        let request = format!("GET /api/v1/{path}?{} HTTP/1.0\r\nHost: x\r\n\r\n", query.join("&"));
        let (_, body) = web::exchange(self.port, &request).ok_or("no answer")?;
        let answer: Value = serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))?;
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"].clone()),
            _ => Err(answer["error"].to_string()),
        }
    }

    /// Evaluates an expression for each second since the start.
    pub fn seen(&self, expression: &str) -> Result<Seen, String> {
        let (start, end) = (self.began.to_string(), now().to_string());
        let parameters = [("query", expression), ("start", &*start), ("end", &*end), ("step", "1")];
        let data = self.get("query_range", &parameters)?;
        let series = data["result"].as_array().ok_or("no list of series")?;
        let values = series.iter().filter_map(|s| s["values"].as_array()).flatten();
        let numbers = values.filter_map(|v| v[1].as_str()?.parse::<f64>().ok()).filter(|v| v.is_finite());
        Ok(numbers.fold(Seen::Nothing, |seen, number| match (seen, number == 0.0) {
            (Seen::Numbers, _) | (_, false) => Seen::Numbers,
            (_, true) => Seen::Zeros,
        }))
    }
}
