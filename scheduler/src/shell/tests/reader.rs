//! A query and the connection of the client that reads its rows.

use super::*;

async fn cancelled(taskmanager: &mut FakeTaskManager, tasks: usize) {
    for _ in 0..tasks {
        let ToTask::Cancel(cancel) = taskmanager.next().await else { panic!("not cancelled") };
        taskmanager.state(&cancel.attempt.unwrap(), "CANCELED", "");
    }
}

#[tokio::test]
async fn a_query_ends_after_its_client_has_hung_up_and_not_while_it_only_does_not_read() {
    let (jobmanager, _) = start(&[("client.heartbeat.timeout", "200 ms")]);
    let mut taskmanager = FakeTaskManager::register(jobmanager.address(), "a", 1).await;
    let own = jobmanager.client().clone();
    let job = own.submit_graph("", graph(1)).await.unwrap().job_id;
    let mut client = job_client(&jobmanager).await;
    let request = v1::CollectResultsRequest { job_id: job.clone() };
    let rows = client.collect_results(request.clone()).await.unwrap();
    let deployments = taskmanager.deployments(2).await;
    deployments.iter().for_each(|d| taskmanager.state(&attempt_of(d), "RUNNING", ""));
    wait_for(&own, &job, "RUNNING").await;
    // Several times the limit: the stream is open, that is enough.
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(own.describe(&job).await.unwrap().status.unwrap().state, "RUNNING");
    drop((rows, client));
    cancelled(&mut taskmanager, 2).await;
    let status = wait_for(&own, &job, "CANCELED").await;
    assert!(status.root_cause.contains("its client has gone"), "{}", status.root_cause);
    let error = own.collect(&job).await.unwrap().next().await.unwrap().unwrap_err().to_string();
    assert!(error.contains("the job was cancelled because its client has gone"), "{error}");
}

#[tokio::test]
async fn a_client_that_takes_over_keeps_the_query_alive() {
    let (jobmanager, _) = start(&[("client.heartbeat.timeout", "1 s")]);
    let mut taskmanager = FakeTaskManager::register(jobmanager.address(), "a", 1).await;
    let client = jobmanager.client().clone();
    let job = client.submit_graph("", graph(1)).await.unwrap().job_id;
    let deployments = taskmanager.deployments(2).await;
    deployments.iter().for_each(|d| taskmanager.state(&attempt_of(d), "RUNNING", ""));
    drop(client.collect(&job).await.unwrap());
    let second = client.collect(&job).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(client.describe(&job).await.unwrap().status.unwrap().state, "RUNNING");
    drop(second);
    cancelled(&mut taskmanager, 2).await;
    wait_for(&client, &job, "CANCELED").await;
}
