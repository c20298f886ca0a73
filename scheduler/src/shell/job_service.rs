//! `hurtig.v1.JobService`: each call is the [`Client`] function of the same purpose.

use std::pin::Pin;

use futures::Stream;
use hurtig_proto::v1;
use hurtig_proto::v1::job_service_server::JobService;
use tonic::{Request, Response, Status};

use super::client::Client;
use crate::error::SchedulerError;

pub(super) struct JobServiceImpl {
    client: Client,
}

impl JobServiceImpl {
    pub(super) fn new(client: Client) -> Self {
        JobServiceImpl { client }
    }
}

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl JobService for JobServiceImpl {
    type WatchJobStream = BoxStream<v1::JobStatus>;
    type CollectResultsStream = BoxStream<v1::ResultBatch>;

    async fn submit_job_graph(
        &self,
        request: Request<v1::SubmitJobGraphRequest>,
    ) -> Result<Response<v1::SubmitJobResponse>, Status> {
        let request = request.into_inner();
        let graph = request.graph.ok_or_else(|| Status::invalid_argument("graph: a job graph is needed"))?;
        Ok(Response::new(self.client.submit_graph(&request.job_id, graph).await?))
    }

    async fn submit_sql(
        &self,
        request: Request<v1::SubmitSqlRequest>,
    ) -> Result<Response<v1::SubmitSqlResponse>, Status> {
        Ok(Response::new(self.client.submit_sql(request.into_inner()).await?))
    }

    async fn list_jobs(&self, _: Request<v1::ListJobsRequest>) -> Result<Response<v1::ListJobsResponse>, Status> {
        Ok(Response::new(v1::ListJobsResponse { jobs: self.client.list().await? }))
    }

    async fn describe_job(&self, request: Request<v1::DescribeJobRequest>) -> Result<Response<v1::JobDetails>, Status> {
        Ok(Response::new(self.client.describe(&request.into_inner().job_id).await?))
    }

    async fn watch_job(&self, request: Request<v1::WatchJobRequest>) -> Result<Response<Self::WatchJobStream>, Status> {
        let watch = self.client.watch(&request.into_inner().job_id).await?;
        let stream = futures::stream::unfold(watch, |mut watch| async move {
            let status = watch.next().await?;
            Some((Ok(status), watch))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn cancel_job(
        &self,
        request: Request<v1::CancelJobRequest>,
    ) -> Result<Response<v1::CancelJobResponse>, Status> {
        self.client.cancel(&request.into_inner().job_id).await?;
        Ok(Response::new(v1::CancelJobResponse {}))
    }

    async fn rescale_job(
        &self,
        request: Request<v1::RescaleJobRequest>,
    ) -> Result<Response<v1::RescaleJobResponse>, Status> {
        self.client.rescale(request.into_inner()).await?;
        Ok(Response::new(v1::RescaleJobResponse {}))
    }

    async fn trigger_savepoint(
        &self,
        request: Request<v1::TriggerSavepointRequest>,
    ) -> Result<Response<v1::TriggerSavepointResponse>, Status> {
        let request = request.into_inner();
        let path = self.client.savepoint(&request.job_id, &request.target).await?;
        Ok(Response::new(v1::TriggerSavepointResponse { path }))
    }

    async fn stop_job(&self, request: Request<v1::StopJobRequest>) -> Result<Response<v1::StopJobResponse>, Status> {
        let request = request.into_inner();
        let path = self.client.stop(&request.job_id, &request.target, request.drain).await?;
        Ok(Response::new(v1::StopJobResponse { path }))
    }

    async fn collect_results(
        &self,
        request: Request<v1::CollectResultsRequest>,
    ) -> Result<Response<Self::CollectResultsStream>, Status> {
        let rows = self.client.collect(&request.into_inner().job_id).await?;
        let stream = futures::stream::unfold(rows, |mut rows| async move {
            let batch: Result<v1::ResultBatch, SchedulerError> = rows.next().await?;
            Some((batch.map_err(Status::from), rows))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn decommission_task_manager(
        &self,
        request: Request<v1::DecommissionTaskManagerRequest>,
    ) -> Result<Response<v1::DecommissionTaskManagerResponse>, Status> {
        self.client.decommission(request.into_inner()).await?;
        Ok(Response::new(v1::DecommissionTaskManagerResponse {}))
    }

    async fn cluster_overview(
        &self,
        _: Request<v1::ClusterOverviewRequest>,
    ) -> Result<Response<v1::ClusterOverviewResponse>, Status> {
        Ok(Response::new(self.client.overview().await?))
    }
}
