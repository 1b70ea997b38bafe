//! temp
#![allow(clippy::all, missing_docs)]
use std::sync::Arc;
use tidegate::app::*; use tidegate::model::*; use tidegate::platform::*; use tidegate::proxy::*; use tidegate::revision::*; use tidegate::stats::*; use tidegate::autoscaler::*;
#[derive(Debug)]
struct T(Updates);
impl ScaleTarget for T { async fn scale(&self, r: &Arc<RevisionSpec>, _o: ScaleOrder) -> Result<(), ScaleError> {
  if let Workload::Static(a) = &r.workload { let _ = self.0.try_send(Update::Replicas{revision: r.id.clone(), endpoints: a.iter().map(|a| Endpoint{id: EndpointId::new(a.to_string()), address:*a}).collect(), counts: ReplicaCounts{ready: a.len() as u32, ..Default::default()}}); } Ok(()) } }
fn main() {
  let a: Vec<String> = std::env::args().collect();
  let up = a[2].parse().unwrap();
  let workers: usize = std::env::var("THREADS").ok().and_then(|t| t.parse().ok()).unwrap_or(1);
  let n: usize = std::env::var("SERVICES").ok().and_then(|t| t.parse().ok()).unwrap_or(1000);
  let clock = Clock::start();
  let shared = Shared::new(Settings::default(), clock);
  let rt = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()).unwrap();
  rt.block_on(async move {
    let door = Door::bind(format!("127.0.0.1:{}", a[1]).parse().unwrap()).unwrap();
    let w = start_workers(workers, &shared, vec![door], 1).unwrap();
    let pokes = Arc::new(Pokes::default());
    let (tx, rx) = tokio::sync::mpsc::channel(100_000);
    let setting = Setting{workers, process: Arc::default(), replans: Arc::default()};
    let auto = Arc::new(Autoscaler::new(pokes.clone(), clock, ProcessLimits::default()));
    let mut c = Control::new(ControlParts{shared: shared.clone(), setting, pokes, target: T(tx.clone()), seed: 1}, auto.clone());
    let (stx, srx) = tokio::sync::mpsc::channel(10_000);
    tokio::task::spawn_local(async move { auto.run(move |s| { let _ = stx.try_send(s); }).await });
    let mut world = World::default();
    for i in 0..n {
      let id = ObjectName::new("default", format!("s{i}-00001"));
      world.revisions.push(Arc::new(RevisionSpec{ id: id.clone(), service: None, configuration: "c".into(), container_concurrency: ContainerConcurrency::Unlimited, protocol: Protocol::Http1, timeouts: Timeouts{request: std::time::Duration::from_secs(300), response_start: None, idle: None}, scaling: ScalingSpec::default(), queue: QueueSettings::default(), workload: Workload::Static(vec![up])}));
      let host: Arc<str> = if i==0 {"h.default.example.com".into()} else {format!("s{i}.default.localhost").into()};
      world.services.push(Arc::new(ServiceSpec{ id: ObjectName::new("default", format!("s{i}")), hosts: vec![host], traffic: vec![TrafficTarget{revision: id.clone(), percent: 100}], tags: vec![], tag_header_routing: false, problem: None, warnings: vec![]}));
    }
    world.default_service = Some(ObjectName::new("default", "s0"));
    tx.send(Update::World(Arc::new(world))).await.unwrap();
    c.run(rx, srx, || w.refresh()).await;
  });
}
