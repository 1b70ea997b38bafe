//! Certificates that change while tidegate serves.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::client::{empty, get, request, request2, send1, send2};
use crate::https::{Authority, Pair, TlsClient, der, serial};
use crate::serving::{SOON, Service, Tidegate, file, host};

/// Waits until new connections get a certificate.
async fn served(tidegate: &Tidegate, client: &TlsClient, wanted: &[u8]) {
    let end = tokio::time::Instant::now() + SOON;
    while serial(&client.connect(tidegate.https[0], &host("a")).await) != wanted {
        assert!(tokio::time::Instant::now() < end, "not taken up:\n{}", tidegate.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn metric(tidegate: &Tidegate, line: &str) -> u64 {
    let metrics = get(tidegate.admin, "localhost", "/metrics").await;
    let found = metrics.text().lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok());
    found.unwrap_or_else(|| panic!("no {line} in {}", metrics.text()))
}

fn serve(pair: &Pair) -> Tidegate {
    let arguments = [&["--https", "127.0.0.1:0"][..], &pair.arguments()].concat();
    Tidegate::with(&file(&[Service::new("a")]), &arguments)
}

/// Requests without a pause until told to end; each must be answered.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    /// On kept connections of both protocols, and on new ones.
    fn start(tidegate: &Tidegate, client: impl Fn(&[&str]) -> TlsClient) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let at = tidegate.https[0];
        let mut tasks = Vec::new();
        for kind in ["kept h1", "kept h1", "kept h2", "new h1", "new h2"] {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            let (h1, h2) = (client(&["http/1.1"]), client(&["h2"]));
            tasks.push(tokio::spawn(async move {
                let mut kept1 = h1.h1(at, &host("a")).await;
                let mut kept2 = h2.h2(at, &host("a")).await;
                while !stop.load(Ordering::Relaxed) {
                    match kind {
                        "new h1" => kept1 = h1.h1(at, &host("a")).await,
                        "new h2" => kept2 = h2.h2(at, &host("a")).await,
                        _ => {}
                    }
                    let answer = if kind.ends_with("h1") {
                        let asked = request("GET", &host("a"), "/").body(empty()).unwrap();
                        send1(&mut kept1, asked).await
                    } else {
                        let asked = request2("GET", &host("a"), "/").body(empty()).unwrap();
                        send2(&mut kept2, asked).await
                    };
                    assert_eq!((answer.status, answer.text()), (200, "Hello World!\n"), "{kind}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        Self { stop, answered, tasks }
    }

    /// Ends it; how many were answered, all of those sent.
    async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.answered.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_renewals_under_load_lose_nothing() {
    let authority = Authority::new();
    let pair = authority.issue("a", &[&host("a")]);
    let tidegate = serve(&pair);
    let client = authority.client(&["http/1.1"]);
    let load = Load::start(&tidegate, |protocols| authority.client(protocols));
    for round in 0..20 {
        if round % 2 == 0 {
            // As certbot and editors do: new files take the places of the old ones.
            let new = authority.issue("new", &[&host("a")]);
            std::fs::rename(&new.key, &pair.key).unwrap();
            std::fs::rename(&new.cert, &pair.cert).unwrap();
        } else {
            // In place, one file after the other.
            authority.issue("a", &[&host("a")]);
        }
        served(&tidegate, &client, &der(&pair.cert)).await;
    }
    let answered = load.end().await;
    assert!(answered > 1000, "{answered}");
    println!("{answered} requests answered over 20 renewals, none lost");
    assert_eq!(
        metric(&tidegate, "tidegate_tls_reloads_total{listener=\"https\",result=\"taken_up\"}")
            .await,
        20
    );
    assert_eq!(
        metric(&tidegate, "tidegate_tls_reloads_total{listener=\"https\",result=\"failed\"}").await,
        0
    );
    for outcome in ["left", "refused", "failed", "timeout"] {
        let name =
            format!("tidegate_tls_handshakes_total{{listener=\"https\",result=\"{outcome}\"}}");
        assert_eq!(metric(&tidegate, &name).await, 0, "{outcome}");
    }
}

/// A folder as Kubernetes mounts a Secret: files are links into `..data`, itself a link that is
/// swapped.
fn mount(folder: &Path, version: &str, cert: &str, key: &str) {
    let data = folder.join(version);
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("tls.crt"), cert).unwrap();
    std::fs::write(data.join("tls.key"), key).unwrap();
    std::os::unix::fs::symlink(version, folder.join("..new")).unwrap();
    std::fs::rename(folder.join("..new"), folder.join("..data")).unwrap();
    for name in ["tls.crt", "tls.key"] {
        if !folder.join(name).exists() {
            std::os::unix::fs::symlink(format!("..data/{name}"), folder.join(name)).unwrap();
        }
    }
}

#[tokio::test]
async fn a_mounted_secret_is_taken_up_when_its_link_is_swapped() {
    let authority = Authority::new();
    let folder = authority.path("mounted");
    std::fs::create_dir(&folder).unwrap();
    let day = Duration::from_secs(24 * 3600);
    let made = || authority.made(&[&host("a")], SystemTime::now() - day, SystemTime::now() + day);
    let (cert, key) = made();
    mount(&folder, "..1", &cert, &key);
    let pair = Pair { cert: folder.join("tls.crt"), key: folder.join("tls.key") };
    let tidegate = serve(&pair);
    let client = authority.client(&["http/1.1"]);
    served(&tidegate, &client, &der(&pair.cert)).await;
    let (cert, key) = made();
    mount(&folder, "..2", &cert, &key);
    std::fs::remove_dir_all(folder.join("..1")).unwrap();
    served(&tidegate, &client, &der(&folder.join("..2").join("tls.crt"))).await;
}

#[tokio::test]
async fn a_bad_pair_leaves_the_one_before_in_use() {
    let authority = Authority::new();
    let pair = authority.issue("a", &[&host("a")]);
    let before = der(&pair.cert);
    let tidegate = serve(&pair);
    let client = authority.client(&["http/1.1"]);
    let outdated = format!(
        "tidegate_tls_certificate_outdated{{listener=\"https\",file=\"{}\"}}",
        pair.cert.display()
    );
    let failed = "tidegate_tls_reloads_total{listener=\"https\",result=\"failed\"}";
    assert_eq!(metric(&tidegate, &outdated).await, 0);
    let other = authority.issue("other", &[&host("a")]);
    for (count, said) in
        [(1, "does not match the key in"), (2, "has no certificate"), (3, "cannot be read")]
    {
        match count {
            1 => drop(std::fs::copy(&other.cert, &pair.cert).unwrap()),
            2 => std::fs::write(&pair.cert, "").unwrap(),
            _ => std::fs::remove_file(&pair.cert).unwrap(),
        }
        tidegate.logged(said).await;
        assert_eq!(metric(&tidegate, failed).await, count);
        assert_eq!(metric(&tidegate, &outdated).await, 1);
        assert_eq!(tidegate.log().matches("The pair before stays in use").count() as u64, count);
        assert!(serial(&client.connect(tidegate.https[0], &host("a")).await) == before);
    }
    std::fs::copy(&other.cert, &pair.cert).unwrap();
    std::fs::copy(&other.key, &pair.key).unwrap();
    served(&tidegate, &client, &der(&other.cert)).await;
    assert_eq!(metric(&tidegate, &outdated).await, 0);
}
