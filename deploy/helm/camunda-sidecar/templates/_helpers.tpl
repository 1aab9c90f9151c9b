{{- define "camunda-sidecar.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "camunda-sidecar.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := include "camunda-sidecar.name" . }}
{{- contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "camunda-sidecar.selectorLabels" -}}
app.kubernetes.io/name: {{ include "camunda-sidecar.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "camunda-sidecar.labels" -}}
{{ include "camunda-sidecar.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* The pods that have a sidecar: the chart's own, or applications with the container in them. */}}
{{- define "camunda-sidecar.podSelector" -}}
{{- if eq .Values.mode "pod" }}
camunda-sidecar/injected: "true"
{{- else }}
{{- include "camunda-sidecar.selectorLabels" . }}
{{- end }}
{{- end }}

{{- define "camunda-sidecar.image" -}}
{{- $image := .Values.image }}
{{- if $image.digest }}
{{- printf "%s@%s" $image.repository $image.digest }}
{{- else }}
{{- printf "%s:%s" $image.repository (default .Chart.AppVersion $image.tag) }}
{{- end }}
{{- end }}

{{- define "camunda-sidecar.serviceAccountName" -}}
{{- default (ternary (include "camunda-sidecar.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name }}
{{- end }}

{{- define "camunda-sidecar.networkPolicy.enabled" -}}
{{- $enabled := .Values.networkPolicy.enabled }}
{{- if kindIs "invalid" $enabled }}{{ $enabled = ne .Values.mode "pod" }}{{ end }}
{{- if $enabled }}true{{ end }}
{{- end }}

{{- /* config.yaml: what follows from the mode, and over it what the values say. */}}
{{- define "camunda-sidecar.config" -}}
{{- $pod := eq .Values.mode "pod" }}
{{- $defaults := dict "admin" (dict "listen" "0.0.0.0:8601") "reload_on_change" true }}
{{- $_ := set $defaults "listen" ($pod | ternary "127.0.0.1:8600" "0.0.0.0:8600") }}
{{- if .Values.config.grpc }}
{{- $_ := set $defaults "grpc" (dict "listen" ($pod | ternary "127.0.0.1:26500" "0.0.0.0:26500")) }}
{{- end }}
{{- $store := default dict .Values.config.token_store }}
{{- if eq (default "file" $store.type) "file" }}
{{- $_ := set $defaults "token_store" (dict "type" "file" "directory" "/var/lib/camunda-sidecar/tokens") }}
{{- end }}
{{- if not $pod }}
{{- $name := include "camunda-sidecar.fullname" . }}
{{- $space := printf "%s.%s" $name .Release.Namespace }}
{{- $hosts := list $name $space (printf "%s.svc" $space) (printf "%s.svc.%s" $space .Values.clusterDomain) }}
{{- $_ := set $defaults "guard" (dict "allow_remote" true "hosts" $hosts) }}
{{- /* Until every node has learnt that this pod is going, its Service still sends requests here. */}}
{{- $_ := set $defaults "drain_delay" "10s" }}
{{- else if not .Values.native }}
{{- /* The application gets SIGTERM in the same moment; a pod's grace period is 30 s where nobody says otherwise. */}}
{{- $_ := set $defaults "drain_delay" "5s" }}
{{- $_ := set $defaults "drain_timeout" "20s" }}
{{- end }}
{{- mergeOverwrite $defaults (deepCopy .Values.config) | toYaml }}
{{- end }}

{{- /* What would render and could not work. */}}
{{- define "camunda-sidecar.validate" -}}
{{- $config := .Values.config }}
{{- $store := default "file" (default dict $config.token_store).type }}
{{- if and (eq .Values.mode "cluster") (ne $store "redis") }}
{{- fail "mode cluster: the replicas share tokens by Redis or Valkey only: set config.token_store to {type: redis, url: …}" }}
{{- end }}
{{- if and (ne .Values.mode "pod") (not .Values.allowAnonymousClients) (not $config.clients) (not (default dict $config.listen_tls).client_ca_file) }}
{{- fail (printf "mode %s: other pods reach the sidecar: set config.clients, or config.listen_tls.client_ca_file, or allowAnonymousClients: true" .Values.mode) }}
{{- end }}
{{- if and (ne .Values.mode "pod") $config.grpc $config.clients }}
{{- fail (printf "mode %s: gRPC knows no clients: leave config.grpc out, or give its callers a sidecar of mode pod" .Values.mode) }}
{{- end }}
{{- if and .Values.injection.kyverno.enabled (ne .Values.mode "pod") }}
{{- fail "injection.kyverno adds the container to pods: it needs mode pod" }}
{{- end }}
{{- end }}
