//! What the system says about this process, under the names that Prometheus's own clients give it.
//!
//! Read from `/proc` for each page; on a system without it the page has none of these.

use std::{fmt::Write as _, fs};

/// Clock ticks in a second as `/proc` counts them, on every Linux of today. Source: `USER_HZ`, proc(5).
const TICKS: f64 = 100.0;

/// What `/proc/self` and `/proc/stat` say.
struct Files {
    stat: String,
    status: String,
    limits: String,
    system: String,
    open_files: usize,
}

/// The lines of the process, to stand behind the recorder's.
pub(super) fn page() -> String {
    let read = |name: &str| fs::read_to_string(name).ok();
    let files = || {
        Some(Files {
            stat: read("/proc/self/stat")?,
            status: read("/proc/self/status")?,
            limits: read("/proc/self/limits")?,
            system: read("/proc/stat")?,
            // One of them is the directory itself while it is read.
            open_files: fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1),
        })
    };
    files().and_then(|files| render(&files)).unwrap_or_default()
}

fn render(files: &Files) -> Option<String> {
    // After the program's name, which may have spaces and parentheses, the third field is first.
    let (_, rest) = files.stat.rsplit_once(") ")?;
    let field = |n: usize| rest.split_whitespace().nth(n.checked_sub(3)?)?.parse::<f64>().ok();
    let kib = |name: &str| line(&files.status, name)?.split_whitespace().next()?.parse::<f64>().ok();
    let limit = line(&files.limits, "Max open files")?.split_whitespace().next()?;
    let booted = line(&files.system, "btime")?.trim().parse::<f64>().ok()?;
    let rows = [
        ("process_cpu_seconds_total", "counter", "Processor time, user and system", (field(14)? + field(15)?) / TICKS),
        ("process_resident_memory_bytes", "gauge", "Resident memory", kib("VmRSS:")? * 1_024.0),
        ("process_virtual_memory_bytes", "gauge", "Address space", kib("VmSize:")? * 1_024.0),
        ("process_threads", "gauge", "Threads", field(20)?),
        ("process_open_fds", "gauge", "Open file descriptors", files.open_files as f64),
        ("process_max_fds", "gauge", "How many may be open", limit.parse().unwrap_or(f64::INFINITY)),
        ("process_start_time_seconds", "gauge", "When it was started, unix time", booted + field(22)? / TICKS),
    ];
    let mut page = String::new();
    for (name, kind, help, value) in rows {
        let value = if value.is_infinite() { "+Inf".to_owned() } else { value.to_string() };
        write!(page, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n\n").ok()?;
    }
    Some(page)
}

fn line<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(limit: &str) -> Files {
        Files {
            stat: "4242 (a) b) S 1 4242 4242 0 -1 4194304 1 0 0 0 150 50 0 0 20 0 9 0 6000 1 1 1".into(),
            status: "Name:\ta) b\nVmSize:\t  200 kB\nVmRSS:\t  100 kB\n".into(),
            limits: format!("Limit Soft Hard Units\nMax open files            {limit}                 4096 files\n"),
            system: "cpu 1 2\nbtime 1700000000\n".into(),
            open_files: 12,
        }
    }

    fn values(page: &str) -> Vec<&str> {
        page.lines().filter(|l| !l.starts_with('#') && !l.is_empty()).collect()
    }

    #[test]
    fn fields_are_found_behind_a_name_with_parentheses() {
        let page = render(&files("1024")).unwrap();
        let expected = [
            "process_cpu_seconds_total 2",
            "process_resident_memory_bytes 102400",
            "process_virtual_memory_bytes 204800",
            "process_threads 9",
            "process_open_fds 12",
            "process_max_fds 1024",
            "process_start_time_seconds 1700000060",
        ];
        assert_eq!(values(&page), expected);
        assert!(page.contains("# TYPE process_cpu_seconds_total counter\n"), "{page}");
    }

    #[test]
    fn no_limit_is_infinite_and_a_file_of_another_form_gives_no_page() {
        assert!(values(&render(&files("unlimited")).unwrap()).contains(&"process_max_fds +Inf"));
        assert!(render(&Files { stat: "4242".into(), ..files("1") }).is_none());
    }

    #[test]
    fn this_process_has_memory_and_files() {
        let page = page();
        let value = |name: &str| line(&page, &format!("{name} ")).unwrap().parse::<f64>().unwrap();
        assert!(value("process_resident_memory_bytes") > 100_000.0, "{page}");
        assert!((3.0..=value("process_max_fds")).contains(&value("process_open_fds")), "{page}");
    }
}
