// The official JavaScript client over gRPC with no credentials and no TLS: a call, an error, a worker, a job stream.
import assert from "node:assert/strict";
import { Camunda8 } from "@camunda8/sdk";

const camunda = new Camunda8({
  CAMUNDA_AUTH_STRATEGY: "NONE",
  CAMUNDA_SECURE_CONNECTION: false,
  ZEEBE_GRPC_ADDRESS: `grpc://${process.argv[2]}`,
  zeebeGrpcSettings: { ZEEBE_CLIENT_LOG_LEVEL: "NONE", ZEEBE_GRPC_CLIENT_RETRY: false },
});
const zeebe = camunda.getZeebeGrpcApiClient();
const result = {};

result.version = (await zeebe.topology()).gatewayVersion;
await assert.rejects(
  zeebe.createProcessInstance({ bpmnProcessId: "none", variables: {} }),
  (error) => error.code === 5 && /no such process/.test(error.details),
);

result.worked = await new Promise((resolve, reject) => {
  const worker = zeebe.createWorker({
    taskType: "polled",
    longPoll: 2000,
    timeout: 30000,
    taskHandler: async (job) => {
      const done = await job.complete({ answer: 42 });
      resolve(job.variables.name);
      return done;
    },
  });
  worker.on("connectionError", reject);
});

result.streamed = await new Promise((resolve) => {
  zeebe.streamJobs({
    type: "streamed",
    worker: "test",
    fetchVariables: [],
    timeout: 30000,
    tenantIds: ["<default>"],
    taskHandler: async (job) => {
      const done = await job.complete();
      resolve(job.variables.name);
      return done;
    },
  });
});

console.log(JSON.stringify(result));
process.exit(0);
