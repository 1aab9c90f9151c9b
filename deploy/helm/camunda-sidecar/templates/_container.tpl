{{- /*
The sidecar's container, for `initContainers` (native: true) or the first of `containers` (native: false):

  initContainers:
    - {{- include "camunda-sidecar.container" (index .Subcharts "camunda-sidecar") | nindent 6 }}
*/}}
{{- define "camunda-sidecar.container" -}}
name: camunda-sidecar
image: {{ include "camunda-sidecar.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- if and (eq .Values.mode "pod") .Values.native }}
restartPolicy: Always
{{- end }}
args: {{ concat (list "run" "--config" "/etc/camunda-sidecar/config.yaml") .Values.extraArgs | toJson }}
{{- $env := list }}
{{- range $secret := .Values.secrets }}
{{- range $variable, $key := $secret.env }}
{{- $env = append $env (dict "name" $variable "valueFrom" (dict "secretKeyRef" (dict "name" $secret.name "key" $key))) }}
{{- end }}
{{- end }}
{{- with concat $env .Values.extraEnv }}
env: {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  {{- if ne .Values.mode "pod" }}
  - {name: sidecar, containerPort: 8600, protocol: TCP}
  {{- if .Values.config.grpc }}
  - {name: sidecar-grpc, containerPort: 26500, protocol: TCP}
  {{- end }}
  {{- end }}
  - {name: sidecar-admin, containerPort: 8601, protocol: TCP}
{{- if and (eq .Values.mode "pod") (not .Values.native) }}
lifecycle: # the containers after this one start when it is ready
  postStart:
    exec: {command: [camunda-sidecar, wait, --local, --timeout, "30"]}
{{- end }}
startupProbe: # ready within a second; no issuer is asked for that
  httpGet: {path: /readyz, port: sidecar-admin}
  periodSeconds: 1
  failureThreshold: 30
readinessProbe:
  httpGet: {path: /readyz, port: sidecar-admin}
  periodSeconds: 5
livenessProbe:
  httpGet: {path: /livez, port: sidecar-admin}
  periodSeconds: 10
  failureThreshold: 3
resources: {{- default (get .Values.defaultResources .Values.mode) .Values.resources | toYaml | nindent 2 }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  readOnlyRootFilesystem: true
  allowPrivilegeEscalation: false
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
volumeMounts:
  - {name: camunda-sidecar-config, mountPath: /etc/camunda-sidecar, readOnly: true}
  - {name: camunda-sidecar-state, mountPath: /var/lib/camunda-sidecar}
  {{- range $directory, $_ := .Values.secrets }}
  - {name: camunda-sidecar-secret-{{ $directory }}, mountPath: /run/secrets/{{ $directory }}, readOnly: true}
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- /* The volumes that the container mounts: a list. */}}
{{- define "camunda-sidecar.volumes" -}}
- name: camunda-sidecar-config
  configMap: {name: {{ include "camunda-sidecar.fullname" . }}}
- name: camunda-sidecar-state
  emptyDir: {medium: Memory, sizeLimit: {{ .Values.stateSize }}}
{{- $pod := eq .Values.mode "pod" }}
{{- range $directory, $secret := .Values.secrets }}
- name: camunda-sidecar-secret-{{ $directory }}
  {{- if $secret.secretProviderClass }}
  csi:
    driver: secrets-store.csi.k8s.io
    readOnly: true
    volumeAttributes: {secretProviderClass: {{ $secret.secretProviderClass }}}
  {{- else }}
  secret:
    secretName: {{ $secret.name }}
    {{- /* In an application's pod there is no fsGroup of ours; this container alone mounts the volume. */}}
    defaultMode: {{ $pod | ternary 292 288 }} # {{ $pod | ternary "0444" "0440" }}
    {{- with $secret.keys }}
    items:
      {{- range . }}
      - {key: {{ . }}, path: {{ . }}}
      {{- end }}
    {{- end }}
  {{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* The pod of the modes node and cluster. */}}
{{- define "camunda-sidecar.podTemplate" -}}
metadata:
  labels:
    {{- include "camunda-sidecar.selectorLabels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    {{- /* The file is mounted, and a change of it is taken into force by itself: new pods are for what needs a restart. */}}
    {{- $config := include "camunda-sidecar.config" . | fromYaml }}
    {{- if $config.reload_on_change }}
    {{- $config = pick $config "listen" "admin" "authorize" "grpc" "token_store" }}
    {{- end }}
    checksum/config: {{ toYaml $config | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "camunda-sidecar.serviceAccountName" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    fsGroup: 65532 # the group that may read the secrets' files
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  containers:
    - {{- include "camunda-sidecar.container" . | nindent 6 }}
  volumes: {{- include "camunda-sidecar.volumes" . | nindent 4 }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if and (eq .Values.mode "cluster") .Values.topologySpread.enabled }}
  topologySpreadConstraints:
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: {{ $.Values.topologySpread.whenUnsatisfiable }}
      labelSelector:
        matchLabels: {{- include "camunda-sidecar.selectorLabels" $ | nindent 10 }}
    {{- end }}
  {{- end }}
{{- end }}
