// The official JavaScript client with no credentials at all, every base URL pointed at the sidecar.
import assert from "node:assert/strict";
import { Camunda8 } from "@camunda8/sdk";

const sidecar = process.argv[2];
const camunda = new Camunda8({
  CAMUNDA_AUTH_STRATEGY: "NONE",
  CAMUNDA_OPERATE_BASE_URL: `${sidecar}/operate`,
  CAMUNDA_OPTIMIZE_BASE_URL: `${sidecar}/optimize`,
  CAMUNDA_TASKLIST_BASE_URL: `${sidecar}/tasklist`,
  CAMUNDA_CONSOLE_BASE_URL: `${sidecar}/console`,
  CAMUNDA_MODELER_BASE_URL: `${sidecar}/modeler`,
  ZEEBE_REST_ADDRESS: `${sidecar}/zeebe`,
});
const result = {};

const operate = camunda.getOperateApiClient();
result.operate = (await operate.searchProcessDefinitions()).items[0].bpmnProcessId;
result.instances = (await operate.searchProcessInstances({ filter: { state: "ACTIVE" } })).items.length;
result.instance = (await operate.getProcessInstance("2251799813685257")).state;

const optimize = camunda.getOptimizeApiClient();
await optimize.getReadiness();
await optimize.enableSharing();
result.optimize = (await optimize.getDashboardIds(1))[0].id;

const console_ = camunda.getAdminApiClient();
const cluster = (await console_.getClusters())[0];
result.console = cluster.name;
assert.equal((await console_.getCluster(cluster.uuid)).uuid, cluster.uuid);
result.members = (await console_.getUsers()).length;

const rest = camunda.getCamundaRestClient();
result.zeebe = (await rest.getTopology()).gatewayVersion;
const orchestration = camunda.getOrchestrationClusterApiClientLoose();
result.orchestration = (await orchestration.getTopology()).gatewayVersion;

const all = await Promise.all(Array.from({ length: 50 }, () => operate.searchIncidents({ filter: {} })));
result.together = all.length;
console.log(JSON.stringify(result));
process.exit(0);
