//! The same load again and again on one life of the program: when all is quiet its memory is what it
//! was before.

use std::rc::Rc;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::task::LocalSet;

use crate::checker::Checker;
use crate::clients::Clients;
use crate::files::Files;
use crate::ledger::{Ledger, Violation};
use crate::life::{Door, Life, Memory};
use crate::weather::{Phase, Weather};
use crate::world::{Surroundings, TIDIED};

/// Down to zero, and replicas on their way out.
const QUIET: Duration = Duration::from_secs(130);

/// How much more memory was in use after each of some cycles than before it, in bytes.
pub(crate) fn soak(cycles: usize) -> (Vec<i64>, Option<Violation>) {
    let runtime =
        Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    let set = LocalSet::new();
    let weather = Weather::mild();
    let ledger = set.block_on(&runtime, async { Rc::new(Ledger::new()) });
    let door = Rc::new(Door::default());
    let clients = Clients::new(1, &ledger, &weather, &door);
    let around = Surroundings::new(&ledger);
    let life = set.block_on(&runtime, async {
        let files = Files::new(&weather).read();
        let life = Life::begin(1, &weather, &around, &Memory::default(), &files);
        life.serving().await;
        door.set(Some(Rc::clone(&life)));
        door.open();
        let checker = Rc::new(Checker::new(&ledger, &weather, &door));
        tokio::task::spawn_local(checker.run());
        life
    });
    let grown = (0..cycles)
        .map(|_| {
            let cycle = || set.block_on(&runtime, cycle(&weather, &clients, &life));
            allocation_counter::measure(cycle).bytes_current
        })
        .collect();
    drop(life);
    let (_, violation) = ledger.close();
    (grown, violation)
}

async fn cycle(weather: &Weather, clients: &Rc<Clients>, life: &Rc<Life>) {
    for phase in &weather.phases {
        clients.phase(phase).await;
    }
    while clients.are_busy() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    clients.hang_up();
    tokio::time::sleep(QUIET).await;
    // Connections to replicas are tidied up while there are clients.
    let last = life.connect_to_all();
    tokio::time::sleep(TIDIED).await;
    drop(last);
    tokio::time::sleep(TIDIED).await;
    // Bounded, and not full after these few.
    life.shared.noted.clear();
}

impl Weather {
    /// Many kinds of requests, and nothing goes wrong but that clients leave.
    fn mild() -> Self {
        let calm = (0..).map(Self::of).find(Self::is_calm).expect("there is one");
        let mut weather = Self { workers: 2, start_ms: (300, 2_000), ..calm };
        weather.chances.http2 = 0.4;
        weather.chances.upgrades = 0.1;
        weather.chances.uploads = 0.3;
        weather.chances.leavers = 0.1;
        for service in &mut weather.services {
            (service.min, service.queue_timeout) = (0, None);
            service.timeout = Duration::from_secs(150);
        }
        weather.phases = vec![
            Phase::Burst { requests: 60, work_ms: 1_000 },
            Phase::Steady { clients: 10, work_ms: 500, seconds: 20 },
            Phase::Trickle { requests: 20, over_s: 10, work_ms: 200 },
        ];
        weather
    }
}
