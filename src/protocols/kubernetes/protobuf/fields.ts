/**
 * Which field of which kind has which number in Kubernetes' protobuf (`generated.proto` of kubernetes/api, whose numbers
 * stay what they are). Made by `test/setup/kube-fields.mjs`; do not edit.
 *
 * One line for each message, by API version; `meta` is what all of them share. A field is `number:name:type`, without a
 * name where JSON has its fields one level up. `[]` is a list, `{}` a map by text, and `*` tells zero from nothing. Types are
 * s text, b boolean, i and l integers of 32 and 64 bits, x bytes, q quantity, o integer or text, t time, m time with
 * microseconds, d duration, r any object, f fields of an owner, n a list of texts; anything else is a message.
 */
export const FIELDS: Readonly<Record<string, string>> = {
  'admissionregistration.k8s.io/v1': `
ApplyConfiguration 1:expression:s
AuditAnnotation 1:key:s 2:valueExpression:s
ExpressionWarning 2:fieldRef:s 3:warning:s
JSONPatch 1:expression:s
MatchCondition 1:name:s 2:expression:s
MatchResources 1:namespaceSelector:meta.LabelSelector* 2:objectSelector:meta.LabelSelector* 3:resourceRules:[]NamedRuleWithOperations 4:excludeResourceRules:[]NamedRuleWithOperations 7:matchPolicy:s*
MutatingAdmissionPolicy 1:metadata:meta.ObjectMeta 2:spec:MutatingAdmissionPolicySpec
MutatingAdmissionPolicyBinding 1:metadata:meta.ObjectMeta 2:spec:MutatingAdmissionPolicyBindingSpec
MutatingAdmissionPolicyBindingSpec 1:policyName:s 2:paramRef:ParamRef* 3:matchResources:MatchResources*
MutatingAdmissionPolicySpec 1:paramKind:ParamKind* 2:matchConstraints:MatchResources* 3:variables:[]Variable 4:mutations:[]Mutation 5:failurePolicy:s* 6:matchConditions:[]MatchCondition 7:reinvocationPolicy:s
MutatingWebhook 1:name:s 2:clientConfig:WebhookClientConfig 3:rules:[]RuleWithOperations 4:failurePolicy:s* 9:matchPolicy:s* 5:namespaceSelector:meta.LabelSelector* 11:objectSelector:meta.LabelSelector* 6:sideEffects:s* 7:timeoutSeconds:i* 8:admissionReviewVersions:[]s 10:reinvocationPolicy:s* 12:matchConditions:[]MatchCondition
MutatingWebhookConfiguration 1:metadata:meta.ObjectMeta 2:webhooks:[]MutatingWebhook
Mutation 2:patchType:s 3:applyConfiguration:ApplyConfiguration* 4:jsonPatch:JSONPatch*
NamedRuleWithOperations 1:resourceNames:[]s 2::RuleWithOperations
ParamKind 1:apiVersion:s 2:kind:s
ParamRef 1:name:s 2:namespace:s 3:selector:meta.LabelSelector* 4:parameterNotFoundAction:s*
Rule 1:apiGroups:[]s 2:apiVersions:[]s 3:resources:[]s 4:scope:s*
RuleWithOperations 1:operations:[]s 2::Rule
ServiceReference 1:namespace:s 2:name:s 3:path:s* 4:port:i*
TypeChecking 1:expressionWarnings:[]ExpressionWarning
ValidatingAdmissionPolicy 1:metadata:meta.ObjectMeta 2:spec:ValidatingAdmissionPolicySpec 3:status:ValidatingAdmissionPolicyStatus
ValidatingAdmissionPolicyBinding 1:metadata:meta.ObjectMeta 2:spec:ValidatingAdmissionPolicyBindingSpec
ValidatingAdmissionPolicyBindingSpec 1:policyName:s 2:paramRef:ParamRef* 3:matchResources:MatchResources* 4:validationActions:[]s
ValidatingAdmissionPolicySpec 1:paramKind:ParamKind* 2:matchConstraints:MatchResources* 3:validations:[]Validation 4:failurePolicy:s* 5:auditAnnotations:[]AuditAnnotation 6:matchConditions:[]MatchCondition 7:variables:[]Variable
ValidatingAdmissionPolicyStatus 1:observedGeneration:l 2:typeChecking:TypeChecking* 3:conditions:[]meta.Condition
ValidatingWebhook 1:name:s 2:clientConfig:WebhookClientConfig 3:rules:[]RuleWithOperations 4:failurePolicy:s* 9:matchPolicy:s* 5:namespaceSelector:meta.LabelSelector* 10:objectSelector:meta.LabelSelector* 6:sideEffects:s* 7:timeoutSeconds:i* 8:admissionReviewVersions:[]s 11:matchConditions:[]MatchCondition
ValidatingWebhookConfiguration 1:metadata:meta.ObjectMeta 2:webhooks:[]ValidatingWebhook
Validation 1:expression:s 2:message:s 3:reason:s* 4:messageExpression:s
Variable 1:name:s 2:expression:s
WebhookClientConfig 3:url:s* 1:service:ServiceReference* 2:caBundle:x
`,
  'admissionregistration.k8s.io/v1beta1': `
ApplyConfiguration 1:expression:s
AuditAnnotation 1:key:s 2:valueExpression:s
ExpressionWarning 2:fieldRef:s 3:warning:s
JSONPatch 1:expression:s
MatchCondition 1:name:s 2:expression:s
MatchResources 1:namespaceSelector:meta.LabelSelector* 2:objectSelector:meta.LabelSelector* 3:resourceRules:[]NamedRuleWithOperations 4:excludeResourceRules:[]NamedRuleWithOperations 7:matchPolicy:s*
MutatingAdmissionPolicy 1:metadata:meta.ObjectMeta 2:spec:MutatingAdmissionPolicySpec
MutatingAdmissionPolicyBinding 1:metadata:meta.ObjectMeta 2:spec:MutatingAdmissionPolicyBindingSpec
MutatingAdmissionPolicyBindingSpec 1:policyName:s 2:paramRef:ParamRef* 3:matchResources:MatchResources*
MutatingAdmissionPolicySpec 1:paramKind:ParamKind* 2:matchConstraints:MatchResources* 3:variables:[]Variable 4:mutations:[]Mutation 5:failurePolicy:s* 6:matchConditions:[]MatchCondition 7:reinvocationPolicy:s
MutatingWebhook 1:name:s 2:clientConfig:WebhookClientConfig 3:rules:[]admissionregistration.k8s.io/v1.RuleWithOperations 4:failurePolicy:s* 9:matchPolicy:s* 5:namespaceSelector:meta.LabelSelector* 11:objectSelector:meta.LabelSelector* 6:sideEffects:s* 7:timeoutSeconds:i* 8:admissionReviewVersions:[]s 10:reinvocationPolicy:s* 12:matchConditions:[]MatchCondition
MutatingWebhookConfiguration 1:metadata:meta.ObjectMeta 2:webhooks:[]MutatingWebhook
Mutation 2:patchType:s 3:applyConfiguration:ApplyConfiguration* 4:jsonPatch:JSONPatch*
NamedRuleWithOperations 1:resourceNames:[]s 2::admissionregistration.k8s.io/v1.RuleWithOperations
ParamKind 1:apiVersion:s 2:kind:s
ParamRef 1:name:s 2:namespace:s 3:selector:meta.LabelSelector* 4:parameterNotFoundAction:s*
ServiceReference 1:namespace:s 2:name:s 3:path:s* 4:port:i*
TypeChecking 1:expressionWarnings:[]ExpressionWarning
ValidatingAdmissionPolicy 1:metadata:meta.ObjectMeta 2:spec:ValidatingAdmissionPolicySpec 3:status:ValidatingAdmissionPolicyStatus
ValidatingAdmissionPolicyBinding 1:metadata:meta.ObjectMeta 2:spec:ValidatingAdmissionPolicyBindingSpec
ValidatingAdmissionPolicyBindingSpec 1:policyName:s 2:paramRef:ParamRef* 3:matchResources:MatchResources* 4:validationActions:[]s
ValidatingAdmissionPolicySpec 1:paramKind:ParamKind* 2:matchConstraints:MatchResources* 3:validations:[]Validation 4:failurePolicy:s* 5:auditAnnotations:[]AuditAnnotation 6:matchConditions:[]MatchCondition 7:variables:[]Variable
ValidatingAdmissionPolicyStatus 1:observedGeneration:l 2:typeChecking:TypeChecking* 3:conditions:[]meta.Condition
ValidatingWebhook 1:name:s 2:clientConfig:WebhookClientConfig 3:rules:[]admissionregistration.k8s.io/v1.RuleWithOperations 4:failurePolicy:s* 9:matchPolicy:s* 5:namespaceSelector:meta.LabelSelector* 10:objectSelector:meta.LabelSelector* 6:sideEffects:s* 7:timeoutSeconds:i* 8:admissionReviewVersions:[]s 11:matchConditions:[]MatchCondition
ValidatingWebhookConfiguration 1:metadata:meta.ObjectMeta 2:webhooks:[]ValidatingWebhook
Validation 1:expression:s 2:message:s 3:reason:s* 4:messageExpression:s
Variable 1:name:s 2:expression:s
WebhookClientConfig 3:url:s* 1:service:ServiceReference* 2:caBundle:x
`,
  'apps/v1': `
ControllerRevision 1:metadata:meta.ObjectMeta 2:data:r 3:revision:l
DaemonSet 1:metadata:meta.ObjectMeta 2:spec:DaemonSetSpec 3:status:DaemonSetStatus
DaemonSetCondition 1:type:s 2:status:s 3:lastTransitionTime:t 4:reason:s 5:message:s
DaemonSetSpec 1:selector:meta.LabelSelector* 2:template:v1.PodTemplateSpec 3:updateStrategy:DaemonSetUpdateStrategy 4:minReadySeconds:i 6:revisionHistoryLimit:i*
DaemonSetStatus 1:currentNumberScheduled:i 2:numberMisscheduled:i 3:desiredNumberScheduled:i 4:numberReady:i 5:observedGeneration:l 6:updatedNumberScheduled:i 7:numberAvailable:i 8:numberUnavailable:i 9:collisionCount:i* 10:conditions:[]DaemonSetCondition
DaemonSetUpdateStrategy 1:type:s 2:rollingUpdate:RollingUpdateDaemonSet*
Deployment 1:metadata:meta.ObjectMeta 2:spec:DeploymentSpec 3:status:DeploymentStatus
DeploymentCondition 1:type:s 2:status:s 6:lastUpdateTime:t 7:lastTransitionTime:t 4:reason:s 5:message:s
DeploymentSpec 1:replicas:i* 2:selector:meta.LabelSelector* 3:template:v1.PodTemplateSpec 4:strategy:DeploymentStrategy 5:minReadySeconds:i 6:revisionHistoryLimit:i* 7:paused:b 9:progressDeadlineSeconds:i*
DeploymentStatus 1:observedGeneration:l 2:replicas:i 3:updatedReplicas:i 7:readyReplicas:i 4:availableReplicas:i 5:unavailableReplicas:i 9:terminatingReplicas:i* 6:conditions:[]DeploymentCondition 8:collisionCount:i*
DeploymentStrategy 1:type:s 2:rollingUpdate:RollingUpdateDeployment*
ReplicaSet 1:metadata:meta.ObjectMeta 2:spec:ReplicaSetSpec 3:status:ReplicaSetStatus
ReplicaSetCondition 1:type:s 2:status:s 3:lastTransitionTime:t 4:reason:s 5:message:s
ReplicaSetSpec 1:replicas:i* 4:minReadySeconds:i 2:selector:meta.LabelSelector* 3:template:v1.PodTemplateSpec
ReplicaSetStatus 1:replicas:i 2:fullyLabeledReplicas:i 4:readyReplicas:i 5:availableReplicas:i 7:terminatingReplicas:i* 3:observedGeneration:l 6:conditions:[]ReplicaSetCondition
RollingUpdateDaemonSet 1:maxUnavailable:o* 2:maxSurge:o*
RollingUpdateDeployment 1:maxUnavailable:o* 2:maxSurge:o*
RollingUpdateStatefulSetStrategy 1:partition:i* 2:maxUnavailable:o*
StatefulSet 1:metadata:meta.ObjectMeta 2:spec:StatefulSetSpec 3:status:StatefulSetStatus
StatefulSetCondition 1:type:s 2:status:s 3:lastTransitionTime:t 4:reason:s 5:message:s
StatefulSetOrdinals 1:start:i
StatefulSetPersistentVolumeClaimRetentionPolicy 1:whenDeleted:s 2:whenScaled:s
StatefulSetSpec 1:replicas:i* 2:selector:meta.LabelSelector* 3:template:v1.PodTemplateSpec 4:volumeClaimTemplates:[]v1.PersistentVolumeClaim 5:serviceName:s 6:podManagementPolicy:s 7:updateStrategy:StatefulSetUpdateStrategy 8:revisionHistoryLimit:i* 9:minReadySeconds:i 10:persistentVolumeClaimRetentionPolicy:StatefulSetPersistentVolumeClaimRetentionPolicy* 11:ordinals:StatefulSetOrdinals*
StatefulSetStatus 1:observedGeneration:l 2:replicas:i 3:readyReplicas:i 4:currentReplicas:i 5:updatedReplicas:i 6:currentRevision:s 7:updateRevision:s 9:collisionCount:i* 10:conditions:[]StatefulSetCondition 11:availableReplicas:i
StatefulSetUpdateStrategy 1:type:s 2:rollingUpdate:RollingUpdateStatefulSetStrategy*
`,
  'authentication.k8s.io/v1': `
BoundObjectReference 1:kind:s 2:apiVersion:s 3:name:s 4:uid:s
SelfSubjectReview 1:metadata:meta.ObjectMeta 2:status:SelfSubjectReviewStatus
SelfSubjectReviewStatus 1:userInfo:UserInfo
TokenRequest 1:metadata:meta.ObjectMeta 2:spec:TokenRequestSpec 3:status:TokenRequestStatus
TokenRequestSpec 1:audiences:[]s 4:expirationSeconds:l* 3:boundObjectRef:BoundObjectReference* 5:attestations:{}n
TokenRequestStatus 1:token:s 2:expirationTimestamp:t
TokenReview 1:metadata:meta.ObjectMeta 2:spec:TokenReviewSpec 3:status:TokenReviewStatus
TokenReviewSpec 1:token:s 2:audiences:[]s
TokenReviewStatus 1:authenticated:b 2:user:UserInfo 4:audiences:[]s 3:error:s
UserInfo 1:username:s 2:uid:s 3:groups:[]s 4:extra:{}n
`,
  'authentication.k8s.io/v1beta1': `
SelfSubjectReview 1:metadata:meta.ObjectMeta 2:status:SelfSubjectReviewStatus
SelfSubjectReviewStatus 1:userInfo:authentication.k8s.io/v1.UserInfo
TokenReview 1:metadata:meta.ObjectMeta 2:spec:TokenReviewSpec 3:status:TokenReviewStatus
TokenReviewSpec 1:token:s 2:audiences:[]s
TokenReviewStatus 1:authenticated:b 2:user:UserInfo 4:audiences:[]s 3:error:s
UserInfo 1:username:s 2:uid:s 3:groups:[]s 4:extra:{}n
`,
  'authorization.k8s.io/v1': `
FieldSelectorAttributes 1:rawSelector:s 2:requirements:[]meta.FieldSelectorRequirement
LabelSelectorAttributes 1:rawSelector:s 2:requirements:[]meta.LabelSelectorRequirement
LocalSubjectAccessReview 1:metadata:meta.ObjectMeta 2:spec:SubjectAccessReviewSpec 3:status:SubjectAccessReviewStatus
NonResourceAttributes 1:path:s 2:verb:s
NonResourceRule 1:verbs:[]s 2:nonResourceURLs:[]s
ResourceAttributes 1:namespace:s 2:verb:s 3:group:s 4:version:s 5:resource:s 6:subresource:s 7:name:s 8:fieldSelector:FieldSelectorAttributes* 9:labelSelector:LabelSelectorAttributes*
ResourceRule 1:verbs:[]s 2:apiGroups:[]s 3:resources:[]s 4:resourceNames:[]s
SelfSubjectAccessReview 1:metadata:meta.ObjectMeta 2:spec:SelfSubjectAccessReviewSpec 3:status:SubjectAccessReviewStatus
SelfSubjectAccessReviewSpec 1:resourceAttributes:ResourceAttributes* 2:nonResourceAttributes:NonResourceAttributes*
SelfSubjectRulesReview 1:metadata:meta.ObjectMeta 2:spec:SelfSubjectRulesReviewSpec 3:status:SubjectRulesReviewStatus
SelfSubjectRulesReviewSpec 1:namespace:s
SubjectAccessReview 1:metadata:meta.ObjectMeta 2:spec:SubjectAccessReviewSpec 3:status:SubjectAccessReviewStatus
SubjectAccessReviewSpec 1:resourceAttributes:ResourceAttributes* 2:nonResourceAttributes:NonResourceAttributes* 3:user:s 4:groups:[]s 5:extra:{}n 6:uid:s
SubjectAccessReviewStatus 1:allowed:b 4:denied:b 2:reason:s 3:evaluationError:s
SubjectRulesReviewStatus 1:resourceRules:[]ResourceRule 2:nonResourceRules:[]NonResourceRule 3:incomplete:b 4:evaluationError:s
`,
  'authorization.k8s.io/v1beta1': `
LocalSubjectAccessReview 1:metadata:meta.ObjectMeta 2:spec:SubjectAccessReviewSpec 3:status:SubjectAccessReviewStatus
NonResourceAttributes 1:path:s 2:verb:s
NonResourceRule 1:verbs:[]s 2:nonResourceURLs:[]s
ResourceAttributes 1:namespace:s 2:verb:s 3:group:s 4:version:s 5:resource:s 6:subresource:s 7:name:s 8:fieldSelector:authorization.k8s.io/v1.FieldSelectorAttributes* 9:labelSelector:authorization.k8s.io/v1.LabelSelectorAttributes*
ResourceRule 1:verbs:[]s 2:apiGroups:[]s 3:resources:[]s 4:resourceNames:[]s
SelfSubjectAccessReview 1:metadata:meta.ObjectMeta 2:spec:SelfSubjectAccessReviewSpec 3:status:SubjectAccessReviewStatus
SelfSubjectAccessReviewSpec 1:resourceAttributes:ResourceAttributes* 2:nonResourceAttributes:NonResourceAttributes*
SelfSubjectRulesReview 1:metadata:meta.ObjectMeta 2:spec:SelfSubjectRulesReviewSpec 3:status:SubjectRulesReviewStatus
SelfSubjectRulesReviewSpec 1:namespace:s
SubjectAccessReview 1:metadata:meta.ObjectMeta 2:spec:SubjectAccessReviewSpec 3:status:SubjectAccessReviewStatus
SubjectAccessReviewSpec 1:resourceAttributes:ResourceAttributes* 2:nonResourceAttributes:NonResourceAttributes* 3:user:s 4:group:[]s 5:extra:{}n 6:uid:s
SubjectAccessReviewStatus 1:allowed:b 4:denied:b 2:reason:s 3:evaluationError:s
SubjectRulesReviewStatus 1:resourceRules:[]ResourceRule 2:nonResourceRules:[]NonResourceRule 3:incomplete:b 4:evaluationError:s
`,
  'autoscaling/v1': `
CrossVersionObjectReference 1:kind:s 2:name:s 3:apiVersion:s
HorizontalPodAutoscaler 1:metadata:meta.ObjectMeta 2:spec:HorizontalPodAutoscalerSpec 3:status:HorizontalPodAutoscalerStatus
HorizontalPodAutoscalerSpec 1:scaleTargetRef:CrossVersionObjectReference 2:minReplicas:i* 3:maxReplicas:i 4:targetCPUUtilizationPercentage:i*
HorizontalPodAutoscalerStatus 1:observedGeneration:l* 2:lastScaleTime:t* 3:currentReplicas:i 4:desiredReplicas:i 5:currentCPUUtilizationPercentage:i*
Scale 1:metadata:meta.ObjectMeta 2:spec:ScaleSpec 3:status:ScaleStatus
ScaleSpec 1:replicas:i
ScaleStatus 1:replicas:i 2:selector:s
`,
  'autoscaling/v2': `
ContainerResourceMetricSource 1:name:s 2:target:MetricTarget 3:container:s
ContainerResourceMetricStatus 1:name:s 2:current:MetricValueStatus 3:container:s
CrossVersionObjectReference 1:kind:s 2:name:s 3:apiVersion:s
ExternalMetricSource 1:metric:MetricIdentifier 2:target:MetricTarget
ExternalMetricStatus 1:metric:MetricIdentifier 2:current:MetricValueStatus
HPAScalingPolicy 1:type:s 2:value:i 3:periodSeconds:i
HPAScalingRules 3:stabilizationWindowSeconds:i* 1:selectPolicy:s* 2:policies:[]HPAScalingPolicy 4:tolerance:q*
HorizontalPodAutoscaler 1:metadata:meta.ObjectMeta 2:spec:HorizontalPodAutoscalerSpec 3:status:HorizontalPodAutoscalerStatus
HorizontalPodAutoscalerBehavior 1:scaleUp:HPAScalingRules* 2:scaleDown:HPAScalingRules*
HorizontalPodAutoscalerCondition 1:type:s 2:status:s 3:lastTransitionTime:t 4:reason:s 5:message:s 6:observedGeneration:l*
HorizontalPodAutoscalerSpec 1:scaleTargetRef:CrossVersionObjectReference 2:minReplicas:i* 3:maxReplicas:i 4:metrics:[]MetricSpec 5:behavior:HorizontalPodAutoscalerBehavior*
HorizontalPodAutoscalerStatus 1:observedGeneration:l* 2:lastScaleTime:t* 3:currentReplicas:i 4:desiredReplicas:i 5:currentMetrics:[]MetricStatus 6:conditions:[]HorizontalPodAutoscalerCondition
MetricIdentifier 1:name:s 2:selector:meta.LabelSelector*
MetricSpec 1:type:s 2:object:ObjectMetricSource* 3:pods:PodsMetricSource* 4:resource:ResourceMetricSource* 7:containerResource:ContainerResourceMetricSource* 5:external:ExternalMetricSource*
MetricStatus 1:type:s 2:object:ObjectMetricStatus* 3:pods:PodsMetricStatus* 4:resource:ResourceMetricStatus* 7:containerResource:ContainerResourceMetricStatus* 5:external:ExternalMetricStatus*
MetricTarget 1:type:s 2:value:q* 3:averageValue:q* 4:averageUtilization:i*
MetricValueStatus 1:value:q* 2:averageValue:q* 3:averageUtilization:i*
ObjectMetricSource 1:describedObject:CrossVersionObjectReference 2:target:MetricTarget 3:metric:MetricIdentifier
ObjectMetricStatus 1:metric:MetricIdentifier 2:current:MetricValueStatus 3:describedObject:CrossVersionObjectReference
PodsMetricSource 1:metric:MetricIdentifier 2:target:MetricTarget
PodsMetricStatus 1:metric:MetricIdentifier 2:current:MetricValueStatus
ResourceMetricSource 1:name:s 2:target:MetricTarget
ResourceMetricStatus 1:name:s 2:current:MetricValueStatus
`,
  'autoscaling/v2beta1': `
ContainerResourceMetricSource 1:name:s 2:targetAverageUtilization:i* 3:targetAverageValue:q* 4:container:s
ContainerResourceMetricStatus 1:name:s 2:currentAverageUtilization:i* 3:currentAverageValue:q 4:container:s
CrossVersionObjectReference 1:kind:s 2:name:s 3:apiVersion:s
ExternalMetricSource 1:metricName:s 2:metricSelector:meta.LabelSelector* 3:targetValue:q* 4:targetAverageValue:q*
ExternalMetricStatus 1:metricName:s 2:metricSelector:meta.LabelSelector* 3:currentValue:q 4:currentAverageValue:q*
HorizontalPodAutoscaler 1:metadata:meta.ObjectMeta 2:spec:HorizontalPodAutoscalerSpec 3:status:HorizontalPodAutoscalerStatus
HorizontalPodAutoscalerCondition 1:type:s 2:status:s 3:lastTransitionTime:t 4:reason:s 5:message:s
HorizontalPodAutoscalerSpec 1:scaleTargetRef:CrossVersionObjectReference 2:minReplicas:i* 3:maxReplicas:i 4:metrics:[]MetricSpec
HorizontalPodAutoscalerStatus 1:observedGeneration:l* 2:lastScaleTime:t* 3:currentReplicas:i 4:desiredReplicas:i 5:currentMetrics:[]MetricStatus 6:conditions:[]HorizontalPodAutoscalerCondition
MetricSpec 1:type:s 2:object:ObjectMetricSource* 3:pods:PodsMetricSource* 4:resource:ResourceMetricSource* 7:containerResource:ContainerResourceMetricSource* 5:external:ExternalMetricSource*
MetricStatus 1:type:s 2:object:ObjectMetricStatus* 3:pods:PodsMetricStatus* 4:resource:ResourceMetricStatus* 7:containerResource:ContainerResourceMetricStatus* 5:external:ExternalMetricStatus*
ObjectMetricSource 1:target:CrossVersionObjectReference 2:metricName:s 3:targetValue:q 4:selector:meta.LabelSelector* 5:averageValue:q*
ObjectMetricStatus 1:target:CrossVersionObjectReference 2:metricName:s 3:currentValue:q 4:selector:meta.LabelSelector* 5:averageValue:q*
PodsMetricSource 1:metricName:s 2:targetAverageValue:q 3:selector:meta.LabelSelector*
PodsMetricStatus 1:metricName:s 2:currentAverageValue:q 3:selector:meta.LabelSelector*
ResourceMetricSource 1:name:s 2:targetAverageUtilization:i* 3:targetAverageValue:q*
ResourceMetricStatus 1:name:s 2:currentAverageUtilization:i* 3:currentAverageValue:q
`,
  'autoscaling/v2beta2': `
ContainerResourceMetricSource 1:name:s 2:target:MetricTarget 3:container:s
ContainerResourceMetricStatus 1:name:s 2:current:MetricValueStatus 3:container:s
CrossVersionObjectReference 1:kind:s 2:name:s 3:apiVersion:s
ExternalMetricSource 1:metric:MetricIdentifier 2:target:MetricTarget
ExternalMetricStatus 1:metric:MetricIdentifier 2:current:MetricValueStatus
HPAScalingPolicy 1:type:s 2:value:i 3:periodSeconds:i
HPAScalingRules 3:stabilizationWindowSeconds:i* 1:selectPolicy:s* 2:policies:[]HPAScalingPolicy
HorizontalPodAutoscaler 1:metadata:meta.ObjectMeta 2:spec:HorizontalPodAutoscalerSpec 3:status:HorizontalPodAutoscalerStatus
HorizontalPodAutoscalerBehavior 1:scaleUp:HPAScalingRules* 2:scaleDown:HPAScalingRules*
HorizontalPodAutoscalerCondition 1:type:s 2:status:s 3:lastTransitionTime:t 4:reason:s 5:message:s
HorizontalPodAutoscalerSpec 1:scaleTargetRef:CrossVersionObjectReference 2:minReplicas:i* 3:maxReplicas:i 4:metrics:[]MetricSpec 5:behavior:HorizontalPodAutoscalerBehavior*
HorizontalPodAutoscalerStatus 1:observedGeneration:l* 2:lastScaleTime:t* 3:currentReplicas:i 4:desiredReplicas:i 5:currentMetrics:[]MetricStatus 6:conditions:[]HorizontalPodAutoscalerCondition
MetricIdentifier 1:name:s 2:selector:meta.LabelSelector*
MetricSpec 1:type:s 2:object:ObjectMetricSource* 3:pods:PodsMetricSource* 4:resource:ResourceMetricSource* 7:containerResource:ContainerResourceMetricSource* 5:external:ExternalMetricSource*
MetricStatus 1:type:s 2:object:ObjectMetricStatus* 3:pods:PodsMetricStatus* 4:resource:ResourceMetricStatus* 7:containerResource:ContainerResourceMetricStatus* 5:external:ExternalMetricStatus*
MetricTarget 1:type:s 2:value:q* 3:averageValue:q* 4:averageUtilization:i*
MetricValueStatus 1:value:q* 2:averageValue:q* 3:averageUtilization:i*
ObjectMetricSource 1:describedObject:CrossVersionObjectReference 2:target:MetricTarget 3:metric:MetricIdentifier
ObjectMetricStatus 1:metric:MetricIdentifier 2:current:MetricValueStatus 3:describedObject:CrossVersionObjectReference
PodsMetricSource 1:metric:MetricIdentifier 2:target:MetricTarget
PodsMetricStatus 1:metric:MetricIdentifier 2:current:MetricValueStatus
ResourceMetricSource 1:name:s 2:target:MetricTarget
ResourceMetricStatus 1:name:s 2:current:MetricValueStatus
`,
  'batch/v1': `
CronJob 1:metadata:meta.ObjectMeta 2:spec:CronJobSpec 3:status:CronJobStatus
CronJobSpec 1:schedule:s 8:timeZone:s* 2:startingDeadlineSeconds:l* 3:concurrencyPolicy:s 4:suspend:b* 5:jobTemplate:JobTemplateSpec 6:successfulJobsHistoryLimit:i* 7:failedJobsHistoryLimit:i*
CronJobStatus 1:active:[]v1.ObjectReference 4:lastScheduleTime:t* 5:lastSuccessfulTime:t*
Job 1:metadata:meta.ObjectMeta 2:spec:JobSpec 3:status:JobStatus
JobCondition 1:type:s 2:status:s 3:lastProbeTime:t 4:lastTransitionTime:t 5:reason:s 6:message:s
JobSchedulingConfiguration
JobSpec 1:parallelism:i* 2:completions:i* 3:activeDeadlineSeconds:l* 11:podFailurePolicy:PodFailurePolicy* 16:successPolicy:SuccessPolicy* 7:backoffLimit:i* 12:backoffLimitPerIndex:i* 13:maxFailedIndexes:i* 4:selector:meta.LabelSelector* 5:manualSelector:b* 6:template:v1.PodTemplateSpec 8:ttlSecondsAfterFinished:i* 9:completionMode:s* 10:suspend:b* 14:podReplacementPolicy:s* 15:managedBy:s* 17:scheduling:JobSchedulingConfiguration*
JobStatus 1:conditions:[]JobCondition 2:startTime:t* 3:completionTime:t* 4:active:i 5:succeeded:i 6:failed:i 11:terminating:i* 7:completedIndexes:s 10:failedIndexes:s* 8:uncountedTerminatedPods:UncountedTerminatedPods* 9:ready:i*
JobTemplateSpec 1:metadata:meta.ObjectMeta 2:spec:JobSpec
PodFailurePolicy 1:rules:[]PodFailurePolicyRule
PodFailurePolicyOnExitCodesRequirement 1:containerName:s* 2:operator:s 3:values:[]i
PodFailurePolicyOnPodConditionsPattern 1:type:s 2:status:s
PodFailurePolicyRule 1:action:s 2:onExitCodes:PodFailurePolicyOnExitCodesRequirement* 3:onPodConditions:[]PodFailurePolicyOnPodConditionsPattern
SuccessPolicy 1:rules:[]SuccessPolicyRule
SuccessPolicyRule 1:succeededIndexes:s* 2:succeededCount:i*
UncountedTerminatedPods 1:succeeded:[]s 2:failed:[]s
`,
  'batch/v1beta1': `
CronJob 1:metadata:meta.ObjectMeta 2:spec:CronJobSpec 3:status:CronJobStatus
CronJobSpec 1:schedule:s 8:timeZone:s* 2:startingDeadlineSeconds:l* 3:concurrencyPolicy:s 4:suspend:b* 5:jobTemplate:JobTemplateSpec 6:successfulJobsHistoryLimit:i* 7:failedJobsHistoryLimit:i*
CronJobStatus 1:active:[]v1.ObjectReference 4:lastScheduleTime:t* 5:lastSuccessfulTime:t*
JobTemplate 1:metadata:meta.ObjectMeta 2:template:JobTemplateSpec
JobTemplateSpec 1:metadata:meta.ObjectMeta 2:spec:batch/v1.JobSpec
`,
  'certificates.k8s.io/v1': `
CertificateSigningRequest 1:metadata:meta.ObjectMeta 2:spec:CertificateSigningRequestSpec 3:status:CertificateSigningRequestStatus
CertificateSigningRequestCondition 1:type:s 6:status:s 2:reason:s 3:message:s 4:lastUpdateTime:t 5:lastTransitionTime:t
CertificateSigningRequestSpec 1:request:x 7:signerName:s 8:expirationSeconds:i* 5:usages:[]s 2:username:s 3:uid:s 4:groups:[]s 6:extra:{}n
CertificateSigningRequestStatus 1:conditions:[]CertificateSigningRequestCondition 2:certificate:x
ClusterTrustBundle 1:metadata:meta.ObjectMeta 2:spec:ClusterTrustBundleSpec
ClusterTrustBundleSpec 1:signerName:s 2:trustBundle:s
PodCertificateRequest 1:metadata:meta.ObjectMeta 2:spec:PodCertificateRequestSpec 3:status:PodCertificateRequestStatus
PodCertificateRequestSpec 1:signerName:s 2:podName:s 3:podUID:s 4:serviceAccountName:s 5:serviceAccountUID:s 6:nodeName:s 7:nodeUID:s 8:maxExpirationSeconds:i* 12:stubPKCS10Request:x 11:unverifiedUserAnnotations:{}s
PodCertificateRequestStatus 1:conditions:[]meta.Condition 2:certificateChain:s 4:notBefore:t* 5:beginRefreshAt:t* 6:notAfter:t*
`,
  'certificates.k8s.io/v1beta1': `
CertificateSigningRequest 1:metadata:meta.ObjectMeta 2:spec:CertificateSigningRequestSpec 3:status:CertificateSigningRequestStatus
CertificateSigningRequestCondition 1:type:s 6:status:s 2:reason:s 3:message:s 4:lastUpdateTime:t 5:lastTransitionTime:t
CertificateSigningRequestSpec 1:request:x 7:signerName:s* 8:expirationSeconds:i* 5:usages:[]s 2:username:s 3:uid:s 4:groups:[]s 6:extra:{}n
CertificateSigningRequestStatus 1:conditions:[]CertificateSigningRequestCondition 2:certificate:x
ClusterTrustBundle 1:metadata:meta.ObjectMeta 2:spec:ClusterTrustBundleSpec
ClusterTrustBundleSpec 1:signerName:s 2:trustBundle:s
PodCertificateRequest 1:metadata:meta.ObjectMeta 2:spec:PodCertificateRequestSpec 3:status:PodCertificateRequestStatus
PodCertificateRequestSpec 1:signerName:s 2:podName:s 3:podUID:s 4:serviceAccountName:s 5:serviceAccountUID:s 6:nodeName:s 7:nodeUID:s 8:maxExpirationSeconds:i* 9:pkixPublicKey:x 10:proofOfPossession:x 12:stubPKCS10Request:x 11:unverifiedUserAnnotations:{}s
PodCertificateRequestStatus 1:conditions:[]meta.Condition 2:certificateChain:s 4:notBefore:t* 5:beginRefreshAt:t* 6:notAfter:t*
`,
  'coordination.k8s.io/v1': `
Lease 1:metadata:meta.ObjectMeta 2:spec:LeaseSpec
LeaseSpec 1:holderIdentity:s* 2:leaseDurationSeconds:i* 3:acquireTime:m* 4:renewTime:m* 5:leaseTransitions:i* 6:strategy:s* 7:preferredHolder:s*
`,
  'coordination.k8s.io/v1beta1': `
Lease 1:metadata:meta.ObjectMeta 2:spec:LeaseSpec
LeaseCandidate 1:metadata:meta.ObjectMeta 2:spec:LeaseCandidateSpec
LeaseCandidateSpec 1:leaseName:s 2:pingTime:m* 3:renewTime:m* 4:binaryVersion:s 5:emulationVersion:s 6:strategy:s
LeaseSpec 1:holderIdentity:s* 2:leaseDurationSeconds:i* 3:acquireTime:m* 4:renewTime:m* 5:leaseTransitions:i* 6:strategy:s* 7:preferredHolder:s*
`,
  'discovery.k8s.io/v1': `
Endpoint 1:addresses:[]s 2:conditions:EndpointConditions 3:hostname:s* 4:targetRef:v1.ObjectReference* 5:deprecatedTopology:{}s 6:nodeName:s* 7:zone:s* 8:hints:EndpointHints*
EndpointConditions 1:ready:b* 2:serving:b* 3:terminating:b*
EndpointHints 1:forZones:[]ForZone 2:forNodes:[]ForNode
EndpointPort 1:name:s* 2:protocol:s* 3:port:i* 4:appProtocol:s*
EndpointSlice 1:metadata:meta.ObjectMeta 4:addressType:s 2:endpoints:[]Endpoint 3:ports:[]EndpointPort
ForNode 1:name:s
ForZone 1:name:s
`,
  'discovery.k8s.io/v1beta1': `
Endpoint 1:addresses:[]s 2:conditions:EndpointConditions 3:hostname:s* 4:targetRef:v1.ObjectReference* 5:topology:{}s 6:nodeName:s* 7:hints:EndpointHints*
EndpointConditions 1:ready:b* 2:serving:b* 3:terminating:b*
EndpointHints 1:forZones:[]ForZone 2:forNodes:[]ForNode
EndpointPort 1:name:s* 2:protocol:s* 3:port:i* 4:appProtocol:s*
EndpointSlice 1:metadata:meta.ObjectMeta 4:addressType:s 2:endpoints:[]Endpoint 3:ports:[]EndpointPort
ForNode 1:name:s
ForZone 1:name:s
`,
  'events.k8s.io/v1': `
Event 1:metadata:meta.ObjectMeta 2:eventTime:m 3:series:EventSeries* 4:reportingController:s 5:reportingInstance:s 6:action:s 7:reason:s 8:regarding:v1.ObjectReference 9:related:v1.ObjectReference* 10:note:s 11:type:s 12:deprecatedSource:v1.EventSource 13:deprecatedFirstTimestamp:t 14:deprecatedLastTimestamp:t 15:deprecatedCount:i
EventSeries 1:count:i 2:lastObservedTime:m
`,
  'events.k8s.io/v1beta1': `
Event 1:metadata:meta.ObjectMeta 2:eventTime:m 3:series:EventSeries* 4:reportingController:s 5:reportingInstance:s 6:action:s 7:reason:s 8:regarding:v1.ObjectReference 9:related:v1.ObjectReference* 10:note:s 11:type:s 12:deprecatedSource:v1.EventSource 13:deprecatedFirstTimestamp:t 14:deprecatedLastTimestamp:t 15:deprecatedCount:i
EventSeries 1:count:i 2:lastObservedTime:m
`,
  'extensions/v1beta1': `
AllowedCSIDriver 1:name:s
AllowedFlexVolume 1:driver:s
AllowedHostPath 1:pathPrefix:s 2:readOnly:b
DaemonSet 1:metadata:meta.ObjectMeta 2:spec:DaemonSetSpec 3:status:DaemonSetStatus
DaemonSetCondition 1:type:s 2:status:s 3:lastTransitionTime:t 4:reason:s 5:message:s
DaemonSetSpec 1:selector:meta.LabelSelector* 2:template:v1.PodTemplateSpec 3:updateStrategy:DaemonSetUpdateStrategy 4:minReadySeconds:i 5:templateGeneration:l 6:revisionHistoryLimit:i*
DaemonSetStatus 1:currentNumberScheduled:i 2:numberMisscheduled:i 3:desiredNumberScheduled:i 4:numberReady:i 5:observedGeneration:l 6:updatedNumberScheduled:i 7:numberAvailable:i 8:numberUnavailable:i 9:collisionCount:i* 10:conditions:[]DaemonSetCondition
DaemonSetUpdateStrategy 1:type:s 2:rollingUpdate:RollingUpdateDaemonSet*
Deployment 1:metadata:meta.ObjectMeta 2:spec:DeploymentSpec 3:status:DeploymentStatus
DeploymentCondition 1:type:s 2:status:s 6:lastUpdateTime:t 7:lastTransitionTime:t 4:reason:s 5:message:s
DeploymentRollback 1:name:s 2:updatedAnnotations:{}s 3:rollbackTo:RollbackConfig
DeploymentSpec 1:replicas:i* 2:selector:meta.LabelSelector* 3:template:v1.PodTemplateSpec 4:strategy:DeploymentStrategy 5:minReadySeconds:i 6:revisionHistoryLimit:i* 7:paused:b 8:rollbackTo:RollbackConfig* 9:progressDeadlineSeconds:i*
DeploymentStatus 1:observedGeneration:l 2:replicas:i 3:updatedReplicas:i 7:readyReplicas:i 4:availableReplicas:i 5:unavailableReplicas:i 9:terminatingReplicas:i* 6:conditions:[]DeploymentCondition 8:collisionCount:i*
DeploymentStrategy 1:type:s 2:rollingUpdate:RollingUpdateDeployment*
FSGroupStrategyOptions 1:rule:s 2:ranges:[]IDRange
HTTPIngressPath 1:path:s 3:pathType:s* 2:backend:IngressBackend
HTTPIngressRuleValue 1:paths:[]HTTPIngressPath
HostPortRange 1:min:i 2:max:i
IDRange 1:min:l 2:max:l
IPBlock 1:cidr:s 2:except:[]s
Ingress 1:metadata:meta.ObjectMeta 2:spec:IngressSpec 3:status:IngressStatus
IngressBackend 1:serviceName:s 2:servicePort:o 3:resource:v1.TypedLocalObjectReference*
IngressLoadBalancerIngress 1:ip:s 2:hostname:s 4:ports:[]IngressPortStatus
IngressLoadBalancerStatus 1:ingress:[]IngressLoadBalancerIngress
IngressPortStatus 1:port:i 2:protocol:s 3:error:s*
IngressRule 1:host:s 2::IngressRuleValue
IngressRuleValue 1:http:HTTPIngressRuleValue*
IngressSpec 4:ingressClassName:s* 1:backend:IngressBackend* 2:tls:[]IngressTLS 3:rules:[]IngressRule
IngressStatus 1:loadBalancer:IngressLoadBalancerStatus
IngressTLS 1:hosts:[]s 2:secretName:s
NetworkPolicy 1:metadata:meta.ObjectMeta 2:spec:NetworkPolicySpec 3:status:NetworkPolicyStatus
NetworkPolicyEgressRule 1:ports:[]NetworkPolicyPort 2:to:[]NetworkPolicyPeer
NetworkPolicyIngressRule 1:ports:[]NetworkPolicyPort 2:from:[]NetworkPolicyPeer
NetworkPolicyPeer 1:podSelector:meta.LabelSelector* 2:namespaceSelector:meta.LabelSelector* 3:ipBlock:IPBlock*
NetworkPolicyPort 1:protocol:s* 2:port:o* 3:endPort:i*
NetworkPolicySpec 1:podSelector:meta.LabelSelector 2:ingress:[]NetworkPolicyIngressRule 3:egress:[]NetworkPolicyEgressRule 4:policyTypes:[]s
NetworkPolicyStatus 1:conditions:[]meta.Condition
PodSecurityPolicy 1:metadata:meta.ObjectMeta 2:spec:PodSecurityPolicySpec
PodSecurityPolicySpec 1:privileged:b 2:defaultAddCapabilities:[]s 3:requiredDropCapabilities:[]s 4:allowedCapabilities:[]s 5:volumes:[]s 6:hostNetwork:b 7:hostPorts:[]HostPortRange 8:hostPID:b 9:hostIPC:b 10:seLinux:SELinuxStrategyOptions 11:runAsUser:RunAsUserStrategyOptions 22:runAsGroup:RunAsGroupStrategyOptions* 12:supplementalGroups:SupplementalGroupsStrategyOptions 13:fsGroup:FSGroupStrategyOptions 14:readOnlyRootFilesystem:b 15:defaultAllowPrivilegeEscalation:b* 16:allowPrivilegeEscalation:b* 17:allowedHostPaths:[]AllowedHostPath 18:allowedFlexVolumes:[]AllowedFlexVolume 23:allowedCSIDrivers:[]AllowedCSIDriver 19:allowedUnsafeSysctls:[]s 20:forbiddenSysctls:[]s 21:allowedProcMountTypes:[]s 24:runtimeClass:RuntimeClassStrategyOptions*
ReplicaSet 1:metadata:meta.ObjectMeta 2:spec:ReplicaSetSpec 3:status:ReplicaSetStatus
ReplicaSetCondition 1:type:s 2:status:s 3:lastTransitionTime:t 4:reason:s 5:message:s
ReplicaSetSpec 1:replicas:i* 4:minReadySeconds:i 2:selector:meta.LabelSelector* 3:template:v1.PodTemplateSpec
ReplicaSetStatus 1:replicas:i 2:fullyLabeledReplicas:i 4:readyReplicas:i 5:availableReplicas:i 7:terminatingReplicas:i* 3:observedGeneration:l 6:conditions:[]ReplicaSetCondition
RollbackConfig 1:revision:l
RollingUpdateDaemonSet 1:maxUnavailable:o* 2:maxSurge:o*
RollingUpdateDeployment 1:maxUnavailable:o* 2:maxSurge:o*
RunAsGroupStrategyOptions 1:rule:s 2:ranges:[]IDRange
RunAsUserStrategyOptions 1:rule:s 2:ranges:[]IDRange
RuntimeClassStrategyOptions 1:allowedRuntimeClassNames:[]s 2:defaultRuntimeClassName:s*
SELinuxStrategyOptions 1:rule:s 2:seLinuxOptions:v1.SELinuxOptions*
Scale 1:metadata:meta.ObjectMeta 2:spec:ScaleSpec 3:status:ScaleStatus
ScaleSpec 1:replicas:i
ScaleStatus 1:replicas:i 2:selector:{}s 3:targetSelector:s
SupplementalGroupsStrategyOptions 1:rule:s 2:ranges:[]IDRange
`,
  'flowcontrol.apiserver.k8s.io/v1': `
ExemptPriorityLevelConfiguration 1:nominalConcurrencyShares:i* 2:lendablePercent:i*
FlowDistinguisherMethod 1:type:s
FlowSchema 1:metadata:meta.ObjectMeta 2:spec:FlowSchemaSpec 3:status:FlowSchemaStatus
FlowSchemaCondition 1:type:s 2:status:s 3:lastTransitionTime:t 4:reason:s 5:message:s
FlowSchemaSpec 1:priorityLevelConfiguration:PriorityLevelConfigurationReference 2:matchingPrecedence:i 3:distinguisherMethod:FlowDistinguisherMethod* 4:rules:[]PolicyRulesWithSubjects
FlowSchemaStatus 1:conditions:[]FlowSchemaCondition
GroupSubject 1:name:s
LimitResponse 1:type:s 2:queuing:QueuingConfiguration*
LimitedPriorityLevelConfiguration 1:nominalConcurrencyShares:i* 2:limitResponse:LimitResponse 3:lendablePercent:i* 4:borrowingLimitPercent:i*
NonResourcePolicyRule 1:verbs:[]s 6:nonResourceURLs:[]s
PolicyRulesWithSubjects 1:subjects:[]Subject 2:resourceRules:[]ResourcePolicyRule 3:nonResourceRules:[]NonResourcePolicyRule
PriorityLevelConfiguration 1:metadata:meta.ObjectMeta 2:spec:PriorityLevelConfigurationSpec 3:status:PriorityLevelConfigurationStatus
PriorityLevelConfigurationCondition 1:type:s 2:status:s 3:lastTransitionTime:t 4:reason:s 5:message:s
PriorityLevelConfigurationReference 1:name:s
PriorityLevelConfigurationSpec 1:type:s 2:limited:LimitedPriorityLevelConfiguration* 3:exempt:ExemptPriorityLevelConfiguration*
PriorityLevelConfigurationStatus 1:conditions:[]PriorityLevelConfigurationCondition
QueuingConfiguration 1:queues:i 2:handSize:i 3:queueLengthLimit:i
ResourcePolicyRule 1:verbs:[]s 2:apiGroups:[]s 3:resources:[]s 4:clusterScope:b 5:namespaces:[]s
ServiceAccountSubject 1:namespace:s 2:name:s
Subject 1:kind:s 2:user:UserSubject* 3:group:GroupSubject* 4:serviceAccount:ServiceAccountSubject*
UserSubject 1:name:s
`,
  'flowcontrol.apiserver.k8s.io/v1beta1': `
ExemptPriorityLevelConfiguration 1:nominalConcurrencyShares:i* 2:lendablePercent:i*
FlowDistinguisherMethod 1:type:s
FlowSchema 1:metadata:meta.ObjectMeta 2:spec:FlowSchemaSpec 3:status:FlowSchemaStatus
FlowSchemaCondition 1:type:s 2:status:s 3:lastTransitionTime:t 4:reason:s 5:message:s
FlowSchemaSpec 1:priorityLevelConfiguration:PriorityLevelConfigurationReference 2:matchingPrecedence:i 3:distinguisherMethod:FlowDistinguisherMethod* 4:rules:[]PolicyRulesWithSubjects
FlowSchemaStatus 1:conditions:[]FlowSchemaCondition
GroupSubject 1:name:s
LimitResponse 1:type:s 2:queuing:QueuingConfiguration*
LimitedPriorityLevelConfiguration 1:assuredConcurrencyShares:i 2:limitResponse:LimitResponse 3:lendablePercent:i* 4:borrowingLimitPercent:i*
NonResourcePolicyRule 1:verbs:[]s 6:nonResourceURLs:[]s
PolicyRulesWithSubjects 1:subjects:[]Subject 2:resourceRules:[]ResourcePolicyRule 3:nonResourceRules:[]NonResourcePolicyRule
PriorityLevelConfiguration 1:metadata:meta.ObjectMeta 2:spec:PriorityLevelConfigurationSpec 3:status:PriorityLevelConfigurationStatus
PriorityLevelConfigurationCondition 1:type:s 2:status:s 3:lastTransitionTime:t 4:reason:s 5:message:s
PriorityLevelConfigurationReference 1:name:s
PriorityLevelConfigurationSpec 1:type:s 2:limited:LimitedPriorityLevelConfiguration* 3:exempt:ExemptPriorityLevelConfiguration*
PriorityLevelConfigurationStatus 1:conditions:[]PriorityLevelConfigurationCondition
QueuingConfiguration 1:queues:i 2:handSize:i 3:queueLengthLimit:i
ResourcePolicyRule 1:verbs:[]s 2:apiGroups:[]s 3:resources:[]s 4:clusterScope:b 5:namespaces:[]s
ServiceAccountSubject 1:namespace:s 2:name:s
Subject 1:kind:s 2:user:UserSubject* 3:group:GroupSubject* 4:serviceAccount:ServiceAccountSubject*
UserSubject 1:name:s
`,
  'flowcontrol.apiserver.k8s.io/v1beta2': `
ExemptPriorityLevelConfiguration 1:nominalConcurrencyShares:i* 2:lendablePercent:i*
FlowDistinguisherMethod 1:type:s
FlowSchema 1:metadata:meta.ObjectMeta 2:spec:FlowSchemaSpec 3:status:FlowSchemaStatus
FlowSchemaCondition 1:type:s 2:status:s 3:lastTransitionTime:t 4:reason:s 5:message:s
FlowSchemaSpec 1:priorityLevelConfiguration:PriorityLevelConfigurationReference 2:matchingPrecedence:i 3:distinguisherMethod:FlowDistinguisherMethod* 4:rules:[]PolicyRulesWithSubjects
FlowSchemaStatus 1:conditions:[]FlowSchemaCondition
GroupSubject 1:name:s
LimitResponse 1:type:s 2:queuing:QueuingConfiguration*
LimitedPriorityLevelConfiguration 1:assuredConcurrencyShares:i 2:limitResponse:LimitResponse 3:lendablePercent:i* 4:borrowingLimitPercent:i*
NonResourcePolicyRule 1:verbs:[]s 6:nonResourceURLs:[]s
PolicyRulesWithSubjects 1:subjects:[]Subject 2:resourceRules:[]ResourcePolicyRule 3:nonResourceRules:[]NonResourcePolicyRule
PriorityLevelConfiguration 1:metadata:meta.ObjectMeta 2:spec:PriorityLevelConfigurationSpec 3:status:PriorityLevelConfigurationStatus
PriorityLevelConfigurationCondition 1:type:s 2:status:s 3:lastTransitionTime:t 4:reason:s 5:message:s
PriorityLevelConfigurationReference 1:name:s
PriorityLevelConfigurationSpec 1:type:s 2:limited:LimitedPriorityLevelConfiguration* 3:exempt:ExemptPriorityLevelConfiguration*
PriorityLevelConfigurationStatus 1:conditions:[]PriorityLevelConfigurationCondition
QueuingConfiguration 1:queues:i 2:handSize:i 3:queueLengthLimit:i
ResourcePolicyRule 1:verbs:[]s 2:apiGroups:[]s 3:resources:[]s 4:clusterScope:b 5:namespaces:[]s
ServiceAccountSubject 1:namespace:s 2:name:s
Subject 1:kind:s 2:user:UserSubject* 3:group:GroupSubject* 4:serviceAccount:ServiceAccountSubject*
UserSubject 1:name:s
`,
  'flowcontrol.apiserver.k8s.io/v1beta3': `
ExemptPriorityLevelConfiguration 1:nominalConcurrencyShares:i* 2:lendablePercent:i*
FlowDistinguisherMethod 1:type:s
FlowSchema 1:metadata:meta.ObjectMeta 2:spec:FlowSchemaSpec 3:status:FlowSchemaStatus
FlowSchemaCondition 1:type:s 2:status:s 3:lastTransitionTime:t 4:reason:s 5:message:s
FlowSchemaSpec 1:priorityLevelConfiguration:PriorityLevelConfigurationReference 2:matchingPrecedence:i 3:distinguisherMethod:FlowDistinguisherMethod* 4:rules:[]PolicyRulesWithSubjects
FlowSchemaStatus 1:conditions:[]FlowSchemaCondition
GroupSubject 1:name:s
LimitResponse 1:type:s 2:queuing:QueuingConfiguration*
LimitedPriorityLevelConfiguration 1:nominalConcurrencyShares:i 2:limitResponse:LimitResponse 3:lendablePercent:i* 4:borrowingLimitPercent:i*
NonResourcePolicyRule 1:verbs:[]s 6:nonResourceURLs:[]s
PolicyRulesWithSubjects 1:subjects:[]Subject 2:resourceRules:[]ResourcePolicyRule 3:nonResourceRules:[]NonResourcePolicyRule
PriorityLevelConfiguration 1:metadata:meta.ObjectMeta 2:spec:PriorityLevelConfigurationSpec 3:status:PriorityLevelConfigurationStatus
PriorityLevelConfigurationCondition 1:type:s 2:status:s 3:lastTransitionTime:t 4:reason:s 5:message:s
PriorityLevelConfigurationReference 1:name:s
PriorityLevelConfigurationSpec 1:type:s 2:limited:LimitedPriorityLevelConfiguration* 3:exempt:ExemptPriorityLevelConfiguration*
PriorityLevelConfigurationStatus 1:conditions:[]PriorityLevelConfigurationCondition
QueuingConfiguration 1:queues:i 2:handSize:i 3:queueLengthLimit:i
ResourcePolicyRule 1:verbs:[]s 2:apiGroups:[]s 3:resources:[]s 4:clusterScope:b 5:namespaces:[]s
ServiceAccountSubject 1:namespace:s 2:name:s
Subject 1:kind:s 2:user:UserSubject* 3:group:GroupSubject* 4:serviceAccount:ServiceAccountSubject*
UserSubject 1:name:s
`,
  meta: `
APIGroup 1:name:s 2:versions:[]GroupVersionForDiscovery 3:preferredVersion:GroupVersionForDiscovery 4:serverAddressByClientCIDRs:[]ServerAddressByClientCIDR
APIVersions 1:versions:[]s 2:serverAddressByClientCIDRs:[]ServerAddressByClientCIDR
ApplyOptions 1:dryRun:[]s 2:force:b 3:fieldManager:s
Condition 1:type:s 2:status:s 3:observedGeneration:l 4:lastTransitionTime:t 5:reason:s 6:message:s
CreateOptions 1:dryRun:[]s 3:fieldManager:s 4:fieldValidation:s
DeleteOptions 1:gracePeriodSeconds:l* 2:preconditions:Preconditions* 3:orphanDependents:b* 4:propagationPolicy:s* 5:dryRun:[]s 6:ignoreStoreReadErrorWithClusterBreakingPotential:b*
ExportOptions 1:export:b 2:exact:b
FieldSelectorRequirement 1:key:s 2:operator:s 3:values:[]s
GetOptions 1:resourceVersion:s
GroupResource 1:group:s 2:resource:s
GroupVersionForDiscovery 1:groupVersion:s 2:version:s
LabelSelector 1:matchLabels:{}s 2:matchExpressions:[]LabelSelectorRequirement
LabelSelectorRequirement 1:key:s 2:operator:s 3:values:[]s
ListMeta 1:selfLink:s 2:resourceVersion:s 3:continue:s 4:remainingItemCount:l* 5:shardInfo:ShardInfo*
ListOptions 1:labelSelector:s 2:fieldSelector:s 3:watch:b 9:allowWatchBookmarks:b 4:resourceVersion:s 10:resourceVersionMatch:s 5:timeoutSeconds:l* 7:limit:l 8:continue:s 11:sendInitialEvents:b* 15:shardSelector:s
ManagedFieldsEntry 1:manager:s 2:operation:s 3:apiVersion:s 4:time:t* 6:fieldsType:s 7:fieldsV1:f* 8:subresource:s
ObjectMeta 1:name:s 2:generateName:s 3:namespace:s 4:selfLink:s 5:uid:s 6:resourceVersion:s 7:generation:l 8:creationTimestamp:t 9:deletionTimestamp:t* 10:deletionGracePeriodSeconds:l* 11:labels:{}s 12:annotations:{}s 13:ownerReferences:[]OwnerReference 14:finalizers:[]s 17:managedFields:[]ManagedFieldsEntry 15:clusterName:s
OwnerReference 5:apiVersion:s 1:kind:s 3:name:s 4:uid:s 6:controller:b* 7:blockOwnerDeletion:b*
PartialObjectMetadata 1:metadata:ObjectMeta
PatchOptions 1:dryRun:[]s 2:force:b* 3:fieldManager:s 4:fieldValidation:s
Preconditions 1:uid:s* 2:resourceVersion:s*
ServerAddressByClientCIDR 1:clientCIDR:s 2:serverAddress:s
ShardInfo 1:selector:s
Status 1:metadata:ListMeta 2:status:s 3:message:s 4:reason:s 5:details:StatusDetails* 6:code:i
StatusCause 1:reason:s 2:message:s 3:field:s
StatusDetails 1:name:s 2:group:s 3:kind:s 6:uid:s 4:causes:[]StatusCause 5:retryAfterSeconds:i
TableOptions 1:includeObject:s
UpdateOptions 1:dryRun:[]s 2:fieldManager:s 3:fieldValidation:s
`,
  'networking.k8s.io/v1': `
HTTPIngressPath 1:path:s 3:pathType:s* 2:backend:IngressBackend
HTTPIngressRuleValue 1:paths:[]HTTPIngressPath
IPAddress 1:metadata:meta.ObjectMeta 2:spec:IPAddressSpec
IPAddressSpec 1:parentRef:ParentReference*
IPBlock 1:cidr:s 2:except:[]s
Ingress 1:metadata:meta.ObjectMeta 2:spec:IngressSpec 3:status:IngressStatus
IngressBackend 4:service:IngressServiceBackend* 3:resource:v1.TypedLocalObjectReference*
IngressClass 1:metadata:meta.ObjectMeta 2:spec:IngressClassSpec
IngressClassParametersReference 1:apiGroup:s* 2:kind:s 3:name:s 4:scope:s* 5:namespace:s*
IngressClassSpec 1:controller:s 2:parameters:IngressClassParametersReference*
IngressLoadBalancerIngress 1:ip:s 2:hostname:s 4:ports:[]IngressPortStatus
IngressLoadBalancerStatus 1:ingress:[]IngressLoadBalancerIngress
IngressPortStatus 1:port:i 2:protocol:s 3:error:s*
IngressRule 1:host:s 2::IngressRuleValue
IngressRuleValue 1:http:HTTPIngressRuleValue*
IngressServiceBackend 1:name:s 2:port:ServiceBackendPort
IngressSpec 4:ingressClassName:s* 1:defaultBackend:IngressBackend* 2:tls:[]IngressTLS 3:rules:[]IngressRule
IngressStatus 1:loadBalancer:IngressLoadBalancerStatus
IngressTLS 1:hosts:[]s 2:secretName:s
NetworkPolicy 1:metadata:meta.ObjectMeta 2:spec:NetworkPolicySpec 3:status:NetworkPolicyStatus
NetworkPolicyEgressRule 1:ports:[]NetworkPolicyPort 2:to:[]NetworkPolicyPeer
NetworkPolicyIngressRule 1:ports:[]NetworkPolicyPort 2:from:[]NetworkPolicyPeer
NetworkPolicyPeer 1:podSelector:meta.LabelSelector* 2:namespaceSelector:meta.LabelSelector* 3:ipBlock:IPBlock*
NetworkPolicyPort 1:protocol:s* 2:port:o* 3:endPort:i*
NetworkPolicySpec 1:podSelector:meta.LabelSelector 2:ingress:[]NetworkPolicyIngressRule 3:egress:[]NetworkPolicyEgressRule 4:policyTypes:[]s
NetworkPolicyStatus 1:conditions:[]meta.Condition
ParentReference 1:group:s 2:resource:s 3:namespace:s 4:name:s
ServiceBackendPort 1:name:s 2:number:i
ServiceCIDR 1:metadata:meta.ObjectMeta 2:spec:ServiceCIDRSpec 3:status:ServiceCIDRStatus
ServiceCIDRSpec 1:cidrs:[]s
ServiceCIDRStatus 1:conditions:[]meta.Condition
`,
  'networking.k8s.io/v1beta1': `
HTTPIngressPath 1:path:s 3:pathType:s* 2:backend:IngressBackend
HTTPIngressRuleValue 1:paths:[]HTTPIngressPath
IPAddress 1:metadata:meta.ObjectMeta 2:spec:IPAddressSpec
IPAddressSpec 1:parentRef:ParentReference*
Ingress 1:metadata:meta.ObjectMeta 2:spec:IngressSpec 3:status:IngressStatus
IngressBackend 1:serviceName:s 2:servicePort:o 3:resource:v1.TypedLocalObjectReference*
IngressClass 1:metadata:meta.ObjectMeta 2:spec:IngressClassSpec
IngressClassParametersReference 1:apiGroup:s* 2:kind:s 3:name:s 4:scope:s* 5:namespace:s*
IngressClassSpec 1:controller:s 2:parameters:IngressClassParametersReference*
IngressLoadBalancerIngress 1:ip:s 2:hostname:s 4:ports:[]IngressPortStatus
IngressLoadBalancerStatus 1:ingress:[]IngressLoadBalancerIngress
IngressPortStatus 1:port:i 2:protocol:s 3:error:s*
IngressRule 1:host:s 2::IngressRuleValue
IngressRuleValue 1:http:HTTPIngressRuleValue*
IngressSpec 4:ingressClassName:s* 1:backend:IngressBackend* 2:tls:[]IngressTLS 3:rules:[]IngressRule
IngressStatus 1:loadBalancer:IngressLoadBalancerStatus
IngressTLS 1:hosts:[]s 2:secretName:s
ParentReference 1:group:s 2:resource:s 3:namespace:s 4:name:s
ServiceCIDR 1:metadata:meta.ObjectMeta 2:spec:ServiceCIDRSpec 3:status:ServiceCIDRStatus
ServiceCIDRSpec 1:cidrs:[]s
ServiceCIDRStatus 1:conditions:[]meta.Condition
`,
  'node.k8s.io/v1': `
Overhead 1:podFixed:{}q
RuntimeClass 1:metadata:meta.ObjectMeta 2:handler:s 3:overhead:Overhead* 4:scheduling:Scheduling*
Scheduling 1:nodeSelector:{}s 2:tolerations:[]v1.Toleration
`,
  'node.k8s.io/v1beta1': `
Overhead 1:podFixed:{}q
RuntimeClass 1:metadata:meta.ObjectMeta 2:handler:s 3:overhead:Overhead* 4:scheduling:Scheduling*
Scheduling 1:nodeSelector:{}s 2:tolerations:[]v1.Toleration
`,
  'policy/v1': `
Eviction 1:metadata:meta.ObjectMeta 2:deleteOptions:meta.DeleteOptions*
PodDisruptionBudget 1:metadata:meta.ObjectMeta 2:spec:PodDisruptionBudgetSpec 3:status:PodDisruptionBudgetStatus
PodDisruptionBudgetSpec 1:minAvailable:o* 2:selector:meta.LabelSelector* 3:maxUnavailable:o* 4:unhealthyPodEvictionPolicy:s*
PodDisruptionBudgetStatus 1:observedGeneration:l 2:disruptedPods:{}t 3:disruptionsAllowed:i 4:currentHealthy:i 5:desiredHealthy:i 6:expectedPods:i 7:conditions:[]meta.Condition
`,
  'policy/v1beta1': `
AllowedCSIDriver 1:name:s
AllowedFlexVolume 1:driver:s
AllowedHostPath 1:pathPrefix:s 2:readOnly:b
Eviction 1:metadata:meta.ObjectMeta 2:deleteOptions:meta.DeleteOptions*
FSGroupStrategyOptions 1:rule:s 2:ranges:[]IDRange
HostPortRange 1:min:i 2:max:i
IDRange 1:min:l 2:max:l
PodDisruptionBudget 1:metadata:meta.ObjectMeta 2:spec:PodDisruptionBudgetSpec 3:status:PodDisruptionBudgetStatus
PodDisruptionBudgetSpec 1:minAvailable:o* 2:selector:meta.LabelSelector* 3:maxUnavailable:o* 4:unhealthyPodEvictionPolicy:s*
PodDisruptionBudgetStatus 1:observedGeneration:l 2:disruptedPods:{}t 3:disruptionsAllowed:i 4:currentHealthy:i 5:desiredHealthy:i 6:expectedPods:i 7:conditions:[]meta.Condition
PodSecurityPolicy 1:metadata:meta.ObjectMeta 2:spec:PodSecurityPolicySpec
PodSecurityPolicySpec 1:privileged:b 2:defaultAddCapabilities:[]s 3:requiredDropCapabilities:[]s 4:allowedCapabilities:[]s 5:volumes:[]s 6:hostNetwork:b 7:hostPorts:[]HostPortRange 8:hostPID:b 9:hostIPC:b 10:seLinux:SELinuxStrategyOptions 11:runAsUser:RunAsUserStrategyOptions 22:runAsGroup:RunAsGroupStrategyOptions* 12:supplementalGroups:SupplementalGroupsStrategyOptions 13:fsGroup:FSGroupStrategyOptions 14:readOnlyRootFilesystem:b 15:defaultAllowPrivilegeEscalation:b* 16:allowPrivilegeEscalation:b* 17:allowedHostPaths:[]AllowedHostPath 18:allowedFlexVolumes:[]AllowedFlexVolume 23:allowedCSIDrivers:[]AllowedCSIDriver 19:allowedUnsafeSysctls:[]s 20:forbiddenSysctls:[]s 21:allowedProcMountTypes:[]s 24:runtimeClass:RuntimeClassStrategyOptions*
RunAsGroupStrategyOptions 1:rule:s 2:ranges:[]IDRange
RunAsUserStrategyOptions 1:rule:s 2:ranges:[]IDRange
RuntimeClassStrategyOptions 1:allowedRuntimeClassNames:[]s 2:defaultRuntimeClassName:s*
SELinuxStrategyOptions 1:rule:s 2:seLinuxOptions:v1.SELinuxOptions*
SupplementalGroupsStrategyOptions 1:rule:s 2:ranges:[]IDRange
`,
  'rbac.authorization.k8s.io/v1': `
AggregationRule 1:clusterRoleSelectors:[]meta.LabelSelector
ClusterRole 1:metadata:meta.ObjectMeta 2:rules:[]PolicyRule 3:aggregationRule:AggregationRule*
ClusterRoleBinding 1:metadata:meta.ObjectMeta 2:subjects:[]Subject 3:roleRef:RoleRef
PolicyRule 1:verbs:[]s 2:apiGroups:[]s 3:resources:[]s 4:resourceNames:[]s 5:nonResourceURLs:[]s
Role 1:metadata:meta.ObjectMeta 2:rules:[]PolicyRule
RoleBinding 1:metadata:meta.ObjectMeta 2:subjects:[]Subject 3:roleRef:RoleRef
RoleRef 1:apiGroup:s 2:kind:s 3:name:s
Subject 1:kind:s 2:apiGroup:s 3:name:s 4:namespace:s
`,
  'rbac.authorization.k8s.io/v1beta1': `
AggregationRule 1:clusterRoleSelectors:[]meta.LabelSelector
ClusterRole 1:metadata:meta.ObjectMeta 2:rules:[]PolicyRule 3:aggregationRule:AggregationRule*
ClusterRoleBinding 1:metadata:meta.ObjectMeta 2:subjects:[]Subject 3:roleRef:RoleRef
PolicyRule 1:verbs:[]s 2:apiGroups:[]s 3:resources:[]s 4:resourceNames:[]s 5:nonResourceURLs:[]s
Role 1:metadata:meta.ObjectMeta 2:rules:[]PolicyRule
RoleBinding 1:metadata:meta.ObjectMeta 2:subjects:[]Subject 3:roleRef:RoleRef
RoleRef 1:apiGroup:s 2:kind:s 3:name:s
Subject 1:kind:s 2:apiGroup:s 3:name:s 4:namespace:s
`,
  'resource.k8s.io/v1': `
AllocatedDeviceStatus 1:driver:s 2:pool:s 3:device:s 7:shareID:s* 4:conditions:[]meta.Condition 5:data:r* 6:networkData:NetworkDeviceData*
AllocationResult 1:devices:DeviceAllocationResult 3:nodeSelector:v1.NodeSelector* 5:allocationTimestamp:t*
CELDeviceSelector 1:expression:s
CapacityRequestPolicy 1:default:q* 3:validValues:[]q 4:validRange:CapacityRequestPolicyRange*
CapacityRequestPolicyRange 1:min:q* 2:max:q* 3:step:q*
CapacityRequirements 1:requests:{}q
Counter 1:value:q
CounterSet 1:name:s 2:counters:{}Counter
Device 1:name:s 2:attributes:{}DeviceAttribute 3:capacity:{}DeviceCapacity 4:consumesCounters:[]DeviceCounterConsumption 5:nodeName:s* 6:nodeSelector:v1.NodeSelector* 7:allNodes:b* 8:taints:[]DeviceTaint 9:bindsToNode:b* 10:bindingConditions:[]s 11:bindingFailureConditions:[]s 12:allowMultipleAllocations:b* 14:nodeAllocatableResources:{}NodeAllocatableResource
DeviceAllocationConfiguration 1:source:s 2:requests:[]s 3::DeviceConfiguration
DeviceAllocationResult 1:results:[]DeviceRequestAllocationResult 2:config:[]DeviceAllocationConfiguration
DeviceAttribute 2:int:l* 3:bool:b* 4:string:s* 5:version:s* 6:ints:[]l 7:bools:[]b 8:strings:[]s 9:versions:[]s
DeviceCapacity 1:value:q 2:requestPolicy:CapacityRequestPolicy*
DeviceClaim 1:requests:[]DeviceRequest 2:constraints:[]DeviceConstraint 3:config:[]DeviceClaimConfiguration
DeviceClaimConfiguration 1:requests:[]s 2::DeviceConfiguration
DeviceClass 1:metadata:meta.ObjectMeta 2:spec:DeviceClassSpec
DeviceClassConfiguration 1::DeviceConfiguration
DeviceClassSpec 1:selectors:[]DeviceSelector 2:config:[]DeviceClassConfiguration 4:extendedResourceName:s*
DeviceConfiguration 1:opaque:OpaqueDeviceConfiguration*
DeviceConstraint 1:requests:[]s 2:matchAttribute:s* 3:distinctAttribute:s*
DeviceCounterConsumption 1:counterSet:s 2:counters:{}Counter
DeviceRequest 1:name:s 2:exactly:ExactDeviceRequest* 3:firstAvailable:[]DeviceSubRequest
DeviceRequestAllocationResult 1:request:s 2:driver:s 3:pool:s 4:device:s 5:adminAccess:b* 6:tolerations:[]DeviceToleration 7:bindingConditions:[]s 8:bindingFailureConditions:[]s 9:shareID:s* 10:consumedCapacity:{}q 11:skipNodeOperations:[]s
DeviceSelector 1:cel:CELDeviceSelector*
DeviceSubRequest 1:name:s 2:deviceClassName:s 3:selectors:[]DeviceSelector 4:allocationMode:s 5:count:l 6:tolerations:[]DeviceToleration 7:capacity:CapacityRequirements*
DeviceTaint 1:key:s 2:value:s 3:effect:s 4:timeAdded:t*
DeviceTaintRule 1:metadata:meta.ObjectMeta 2:spec:DeviceTaintRuleSpec 3:status:DeviceTaintRuleStatus
DeviceTaintRuleSpec 1:deviceSelector:DeviceTaintSelector* 2:taint:DeviceTaint
DeviceTaintRuleStatus 1:conditions:[]meta.Condition
DeviceTaintSelector 2:driver:s* 3:pool:s* 4:device:s*
DeviceToleration 1:key:s 2:operator:s 3:value:s 4:effect:s 5:tolerationSeconds:l*
ExactDeviceRequest 1:deviceClassName:s 2:selectors:[]DeviceSelector 3:allocationMode:s 4:count:l 5:adminAccess:b* 6:tolerations:[]DeviceToleration 7:capacity:CapacityRequirements*
NetworkDeviceData 1:interfaceName:s 2:ips:[]s 3:hardwareAddress:s
NodeAllocatableMapping 1:capacityKey:s* 2:capacityMultiplier:q* 3:deviceMultiplier:q*
NodeAllocatableOverhead 1:perPod:q* 2:perContainer:q*
NodeAllocatableResource 3:mapping:NodeAllocatableMapping* 4:overhead:NodeAllocatableOverhead*
OpaqueDeviceConfiguration 1:driver:s 2:parameters:r
ResourceClaim 1:metadata:meta.ObjectMeta 2:spec:ResourceClaimSpec 3:status:ResourceClaimStatus
ResourceClaimConsumerReference 1:apiGroup:s 3:resource:s 4:name:s 5:uid:s
ResourceClaimSpec 1:devices:DeviceClaim
ResourceClaimStatus 1:allocation:AllocationResult* 2:reservedFor:[]ResourceClaimConsumerReference 4:devices:[]AllocatedDeviceStatus
ResourceClaimTemplate 1:metadata:meta.ObjectMeta 2:spec:ResourceClaimTemplateSpec
ResourceClaimTemplateSpec 1:metadata:meta.ObjectMeta 2:spec:ResourceClaimSpec
ResourcePool 1:name:s 2:generation:l 3:resourceSliceCount:l
ResourceSlice 1:metadata:meta.ObjectMeta 2:spec:ResourceSliceSpec
ResourceSliceSpec 1:driver:s 2:pool:ResourcePool 3:nodeName:s* 4:nodeSelector:v1.NodeSelector* 5:allNodes:b* 6:devices:[]Device 7:perDeviceNodeSelection:b* 8:sharedCounters:[]CounterSet 9:partitionTypeAttribute:s* 10:skipNodeOperations:[]s
`,
  'resource.k8s.io/v1beta1': `
AllocatedDeviceStatus 1:driver:s 2:pool:s 3:device:s 7:shareID:s* 4:conditions:[]meta.Condition 5:data:r* 6:networkData:NetworkDeviceData*
AllocationResult 1:devices:DeviceAllocationResult 3:nodeSelector:v1.NodeSelector* 5:allocationTimestamp:t*
BasicDevice 1:attributes:{}DeviceAttribute 2:capacity:{}DeviceCapacity 3:consumesCounters:[]DeviceCounterConsumption 4:nodeName:s* 5:nodeSelector:v1.NodeSelector* 6:allNodes:b* 7:taints:[]DeviceTaint 8:bindsToNode:b* 9:bindingConditions:[]s 10:bindingFailureConditions:[]s 11:allowMultipleAllocations:b* 14:nodeAllocatableResources:{}NodeAllocatableResource
CELDeviceSelector 1:expression:s
CapacityRequestPolicy 1:default:q* 3:validValues:[]q 4:validRange:CapacityRequestPolicyRange*
CapacityRequestPolicyRange 1:min:q* 2:max:q* 3:step:q*
CapacityRequirements 1:requests:{}q
Counter 1:value:q
CounterSet 1:name:s 2:counters:{}Counter
Device 1:name:s 2:basic:BasicDevice*
DeviceAllocationConfiguration 1:source:s 2:requests:[]s 3::DeviceConfiguration
DeviceAllocationResult 1:results:[]DeviceRequestAllocationResult 2:config:[]DeviceAllocationConfiguration
DeviceAttribute 2:int:l* 3:bool:b* 4:string:s* 5:version:s* 6:ints:[]l 7:bools:[]b 8:strings:[]s 9:versions:[]s
DeviceCapacity 1:value:q 2:requestPolicy:CapacityRequestPolicy*
DeviceClaim 1:requests:[]DeviceRequest 2:constraints:[]DeviceConstraint 3:config:[]DeviceClaimConfiguration
DeviceClaimConfiguration 1:requests:[]s 2::DeviceConfiguration
DeviceClass 1:metadata:meta.ObjectMeta 2:spec:DeviceClassSpec
DeviceClassConfiguration 1::DeviceConfiguration
DeviceClassSpec 1:selectors:[]DeviceSelector 2:config:[]DeviceClassConfiguration 4:extendedResourceName:s*
DeviceConfiguration 1:opaque:OpaqueDeviceConfiguration*
DeviceConstraint 1:requests:[]s 2:matchAttribute:s* 3:distinctAttribute:s*
DeviceCounterConsumption 1:counterSet:s 2:counters:{}Counter
DeviceRequest 1:name:s 2:deviceClassName:s 3:selectors:[]DeviceSelector 4:allocationMode:s 5:count:l 6:adminAccess:b* 7:firstAvailable:[]DeviceSubRequest 8:tolerations:[]DeviceToleration 9:capacity:CapacityRequirements*
DeviceRequestAllocationResult 1:request:s 2:driver:s 3:pool:s 4:device:s 5:adminAccess:b* 6:tolerations:[]DeviceToleration 7:bindingConditions:[]s 8:bindingFailureConditions:[]s 9:shareID:s* 10:consumedCapacity:{}q 11:skipNodeOperations:[]s
DeviceSelector 1:cel:CELDeviceSelector*
DeviceSubRequest 1:name:s 2:deviceClassName:s 3:selectors:[]DeviceSelector 4:allocationMode:s 5:count:l 7:tolerations:[]DeviceToleration 8:capacity:CapacityRequirements*
DeviceTaint 1:key:s 2:value:s 3:effect:s 4:timeAdded:t*
DeviceToleration 1:key:s 2:operator:s 3:value:s 4:effect:s 5:tolerationSeconds:l*
NetworkDeviceData 1:interfaceName:s 2:ips:[]s 3:hardwareAddress:s
NodeAllocatableMapping 1:capacityKey:s* 2:capacityMultiplier:q* 3:deviceMultiplier:q*
NodeAllocatableOverhead 1:perPod:q* 2:perContainer:q*
NodeAllocatableResource 3:mapping:NodeAllocatableMapping* 4:overhead:NodeAllocatableOverhead*
OpaqueDeviceConfiguration 1:driver:s 2:parameters:r
ResourceClaim 1:metadata:meta.ObjectMeta 2:spec:ResourceClaimSpec 3:status:ResourceClaimStatus
ResourceClaimConsumerReference 1:apiGroup:s 3:resource:s 4:name:s 5:uid:s
ResourceClaimSpec 1:devices:DeviceClaim
ResourceClaimStatus 1:allocation:AllocationResult* 2:reservedFor:[]ResourceClaimConsumerReference 4:devices:[]AllocatedDeviceStatus
ResourceClaimTemplate 1:metadata:meta.ObjectMeta 2:spec:ResourceClaimTemplateSpec
ResourceClaimTemplateSpec 1:metadata:meta.ObjectMeta 2:spec:ResourceClaimSpec
ResourcePool 1:name:s 2:generation:l 3:resourceSliceCount:l
ResourceSlice 1:metadata:meta.ObjectMeta 2:spec:ResourceSliceSpec
ResourceSliceSpec 1:driver:s 2:pool:ResourcePool 3:nodeName:s 4:nodeSelector:v1.NodeSelector* 5:allNodes:b 6:devices:[]Device 7:perDeviceNodeSelection:b* 8:sharedCounters:[]CounterSet 9:partitionTypeAttribute:s* 10:skipNodeOperations:[]s
`,
  'resource.k8s.io/v1beta2': `
AllocatedDeviceStatus 1:driver:s 2:pool:s 3:device:s 7:shareID:s* 4:conditions:[]meta.Condition 5:data:r* 6:networkData:NetworkDeviceData*
AllocationResult 1:devices:DeviceAllocationResult 3:nodeSelector:v1.NodeSelector* 5:allocationTimestamp:t*
CELDeviceSelector 1:expression:s
CapacityRequestPolicy 1:default:q* 3:validValues:[]q 4:validRange:CapacityRequestPolicyRange*
CapacityRequestPolicyRange 1:min:q* 2:max:q* 3:step:q*
CapacityRequirements 1:requests:{}q
Counter 1:value:q
CounterSet 1:name:s 2:counters:{}Counter
Device 1:name:s 2:attributes:{}DeviceAttribute 3:capacity:{}DeviceCapacity 4:consumesCounters:[]DeviceCounterConsumption 5:nodeName:s* 6:nodeSelector:v1.NodeSelector* 7:allNodes:b* 8:taints:[]DeviceTaint 9:bindsToNode:b* 10:bindingConditions:[]s 11:bindingFailureConditions:[]s 12:allowMultipleAllocations:b* 14:nodeAllocatableResources:{}NodeAllocatableResource
DeviceAllocationConfiguration 1:source:s 2:requests:[]s 3::DeviceConfiguration
DeviceAllocationResult 1:results:[]DeviceRequestAllocationResult 2:config:[]DeviceAllocationConfiguration
DeviceAttribute 2:int:l* 3:bool:b* 4:string:s* 5:version:s* 6:ints:[]l 7:bools:[]b 8:strings:[]s 9:versions:[]s
DeviceCapacity 1:value:q 2:requestPolicy:CapacityRequestPolicy*
DeviceClaim 1:requests:[]DeviceRequest 2:constraints:[]DeviceConstraint 3:config:[]DeviceClaimConfiguration
DeviceClaimConfiguration 1:requests:[]s 2::DeviceConfiguration
DeviceClass 1:metadata:meta.ObjectMeta 2:spec:DeviceClassSpec
DeviceClassConfiguration 1::DeviceConfiguration
DeviceClassSpec 1:selectors:[]DeviceSelector 2:config:[]DeviceClassConfiguration 4:extendedResourceName:s*
DeviceConfiguration 1:opaque:OpaqueDeviceConfiguration*
DeviceConstraint 1:requests:[]s 2:matchAttribute:s* 3:distinctAttribute:s*
DeviceCounterConsumption 1:counterSet:s 2:counters:{}Counter
DeviceRequest 1:name:s 2:exactly:ExactDeviceRequest* 3:firstAvailable:[]DeviceSubRequest
DeviceRequestAllocationResult 1:request:s 2:driver:s 3:pool:s 4:device:s 5:adminAccess:b* 6:tolerations:[]DeviceToleration 7:bindingConditions:[]s 8:bindingFailureConditions:[]s 9:shareID:s* 10:consumedCapacity:{}q 11:skipNodeOperations:[]s
DeviceSelector 1:cel:CELDeviceSelector*
DeviceSubRequest 1:name:s 2:deviceClassName:s 3:selectors:[]DeviceSelector 4:allocationMode:s 5:count:l 6:tolerations:[]DeviceToleration 7:capacity:CapacityRequirements*
DeviceTaint 1:key:s 2:value:s 3:effect:s 4:timeAdded:t*
DeviceTaintRule 1:metadata:meta.ObjectMeta 2:spec:DeviceTaintRuleSpec 3:status:DeviceTaintRuleStatus
DeviceTaintRuleSpec 1:deviceSelector:DeviceTaintSelector* 2:taint:DeviceTaint
DeviceTaintRuleStatus 1:conditions:[]meta.Condition
DeviceTaintSelector 2:driver:s* 3:pool:s* 4:device:s*
DeviceToleration 1:key:s 2:operator:s 3:value:s 4:effect:s 5:tolerationSeconds:l*
ExactDeviceRequest 1:deviceClassName:s 2:selectors:[]DeviceSelector 3:allocationMode:s 4:count:l 5:adminAccess:b* 6:tolerations:[]DeviceToleration 7:capacity:CapacityRequirements*
NetworkDeviceData 1:interfaceName:s 2:ips:[]s 3:hardwareAddress:s
NodeAllocatableMapping 1:capacityKey:s* 2:capacityMultiplier:q* 3:deviceMultiplier:q*
NodeAllocatableOverhead 1:perPod:q* 2:perContainer:q*
NodeAllocatableResource 3:mapping:NodeAllocatableMapping* 4:overhead:NodeAllocatableOverhead*
OpaqueDeviceConfiguration 1:driver:s 2:parameters:r
ResourceClaim 1:metadata:meta.ObjectMeta 2:spec:ResourceClaimSpec 3:status:ResourceClaimStatus
ResourceClaimConsumerReference 1:apiGroup:s 3:resource:s 4:name:s 5:uid:s
ResourceClaimSpec 1:devices:DeviceClaim
ResourceClaimStatus 1:allocation:AllocationResult* 2:reservedFor:[]ResourceClaimConsumerReference 4:devices:[]AllocatedDeviceStatus
ResourceClaimTemplate 1:metadata:meta.ObjectMeta 2:spec:ResourceClaimTemplateSpec
ResourceClaimTemplateSpec 1:metadata:meta.ObjectMeta 2:spec:ResourceClaimSpec
ResourcePool 1:name:s 2:generation:l 3:resourceSliceCount:l
ResourceSlice 1:metadata:meta.ObjectMeta 2:spec:ResourceSliceSpec
ResourceSliceSpec 1:driver:s 2:pool:ResourcePool 3:nodeName:s* 4:nodeSelector:v1.NodeSelector* 5:allNodes:b* 6:devices:[]Device 7:perDeviceNodeSelection:b* 8:sharedCounters:[]CounterSet 9:partitionTypeAttribute:s* 10:skipNodeOperations:[]s
`,
  'scheduling.k8s.io/v1': `
PriorityClass 1:metadata:meta.ObjectMeta 2:value:i 3:globalDefault:b 4:description:s 5:preemptionPolicy:s*
`,
  'scheduling.k8s.io/v1beta1': `
AllCompositeDisruptionMode
AllDisruptionMode
BasicSchedulingPolicy
CompositeBasicSchedulingPolicy
CompositeDisruptionMode 1:single:SingleCompositeDisruptionMode* 2:all:AllCompositeDisruptionMode*
CompositeGangSchedulingPolicy 1:minGroupCount:i
CompositePodGroupSchedulingConstraints 1:topology:[]TopologyConstraint
CompositePodGroupSchedulingPolicy 1:basic:CompositeBasicSchedulingPolicy* 2:gang:CompositeGangSchedulingPolicy*
CompositePodGroupTemplate 1:name:s 2:schedulingPolicy:CompositePodGroupSchedulingPolicy 3:schedulingConstraints:CompositePodGroupSchedulingConstraints* 4:disruptionMode:CompositeDisruptionMode* 5:priorityClassName:s 6:priority:i* 7:preemptionPolicy:s* 8:podGroupTemplates:[]PodGroupTemplate 9:compositePodGroupTemplates:[]CompositePodGroupTemplate
DisruptionMode 1:single:SingleDisruptionMode* 2:all:AllDisruptionMode*
GangSchedulingPolicy 1:minCount:i
PodGroup 1:metadata:meta.ObjectMeta 2:spec:PodGroupSpec 3:status:PodGroupStatus
PodGroupResourceClaim 1:name:s 2:resourceClaimName:s* 3:resourceClaimTemplateName:s*
PodGroupResourceClaimStatus 1:name:s 2:resourceClaimName:s*
PodGroupSchedulingConstraints 1:topology:[]TopologyConstraint
PodGroupSchedulingPolicy 1:basic:BasicSchedulingPolicy* 2:gang:GangSchedulingPolicy*
PodGroupSpec 1:parentCompositePodGroupName:s* 2:workloadRef:WorkloadReference* 3:schedulingPolicy:PodGroupSchedulingPolicy 4:schedulingConstraints:PodGroupSchedulingConstraints* 5:resourceClaims:[]PodGroupResourceClaim 6:disruptionMode:DisruptionMode* 7:priorityClassName:s 8:priority:i* 9:preemptionPolicy:s*
PodGroupStatus 1:conditions:[]meta.Condition 2:resourceClaimStatuses:[]PodGroupResourceClaimStatus
PodGroupTemplate 1:name:s 2:schedulingPolicy:PodGroupSchedulingPolicy 3:schedulingConstraints:PodGroupSchedulingConstraints* 4:resourceClaims:[]PodGroupResourceClaim 5:disruptionMode:DisruptionMode* 6:priorityClassName:s 7:priority:i* 8:preemptionPolicy:s*
PriorityClass 1:metadata:meta.ObjectMeta 2:value:i 3:globalDefault:b 4:description:s 5:preemptionPolicy:s*
SingleCompositeDisruptionMode
SingleDisruptionMode
TopologyConstraint 1:key:s
TypedLocalObjectReference 1:apiGroup:s 2:kind:s 3:name:s
Workload 1:metadata:meta.ObjectMeta 2:spec:WorkloadSpec
WorkloadReference 1:workloadName:s 2:templateName:s
WorkloadSpec 1:controllerRef:TypedLocalObjectReference* 2:podGroupTemplates:[]PodGroupTemplate 3:compositePodGroupTemplates:[]CompositePodGroupTemplate
`,
  'storage.k8s.io/v1': `
CSIDriver 1:metadata:meta.ObjectMeta 2:spec:CSIDriverSpec
CSIDriverSpec 1:attachRequired:b* 2:podInfoOnMount:b* 3:volumeLifecycleModes:[]s 4:storageCapacity:b* 5:fsGroupPolicy:s* 6:tokenRequests:[]TokenRequest 7:requiresRepublish:b* 8:seLinuxMount:b* 9:nodeAllocatableUpdatePeriodSeconds:l* 10:serviceAccountTokenInSecrets:b* 11:preventPodSchedulingIfMissing:b*
CSINode 1:metadata:meta.ObjectMeta 2:spec:CSINodeSpec 3:status:CSINodeStatus
CSINodeDriver 1:name:s 2:nodeID:s 3:topologyKeys:[]s 4:allocatable:VolumeNodeResources*
CSINodeSpec 1:drivers:[]CSINodeDriver
CSINodeStatus 1:storageHealth:[]StorageHealth
CSIStorageCapacity 1:metadata:meta.ObjectMeta 2:nodeTopology:meta.LabelSelector* 3:storageClassName:s 4:capacity:q* 5:maximumVolumeSize:q*
StorageClass 1:metadata:meta.ObjectMeta 2:provisioner:s 3:parameters:{}s 4:reclaimPolicy:s* 5:mountOptions:[]s 6:allowVolumeExpansion:b* 7:volumeBindingMode:s* 8:allowedTopologies:[]v1.TopologySelectorTerm
StorageHealth 1:name:s 2:healthConditions:[]StorageHealthCondition
StorageHealthCondition 1:status:s 2:reason:s 3:message:s 4:accessMode:s* 5:volumeMode:s* 6:lastTransitionTime:t
TokenRequest 1:audience:s 2:expirationSeconds:l*
VolumeAttachment 1:metadata:meta.ObjectMeta 2:spec:VolumeAttachmentSpec 3:status:VolumeAttachmentStatus
VolumeAttachmentSource 1:persistentVolumeName:s* 2:inlineVolumeSpec:v1.PersistentVolumeSpec*
VolumeAttachmentSpec 1:attacher:s 2:source:VolumeAttachmentSource 3:nodeName:s
VolumeAttachmentStatus 1:attached:b 2:attachmentMetadata:{}s 3:attachError:VolumeError* 4:detachError:VolumeError*
VolumeAttributesClass 1:metadata:meta.ObjectMeta 2:driverName:s 3:parameters:{}s
VolumeError 1:time:t 2:message:s 3:errorCode:i*
VolumeNodeResources 1:count:i*
`,
  'storage.k8s.io/v1beta1': `
CSIDriver 1:metadata:meta.ObjectMeta 2:spec:CSIDriverSpec
CSIDriverSpec 1:attachRequired:b* 2:podInfoOnMount:b* 3:volumeLifecycleModes:[]s 4:storageCapacity:b* 5:fsGroupPolicy:s* 6:tokenRequests:[]TokenRequest 7:requiresRepublish:b* 8:seLinuxMount:b* 9:nodeAllocatableUpdatePeriodSeconds:l* 10:serviceAccountTokenInSecrets:b* 11:preventPodSchedulingIfMissing:b*
CSINode 1:metadata:meta.ObjectMeta 2:spec:CSINodeSpec 3:status:CSINodeStatus
CSINodeDriver 1:name:s 2:nodeID:s 3:topologyKeys:[]s 4:allocatable:VolumeNodeResources*
CSINodeSpec 1:drivers:[]CSINodeDriver
CSINodeStatus 1:storageHealth:[]StorageHealth
CSIStorageCapacity 1:metadata:meta.ObjectMeta 2:nodeTopology:meta.LabelSelector* 3:storageClassName:s 4:capacity:q* 5:maximumVolumeSize:q*
StorageClass 1:metadata:meta.ObjectMeta 2:provisioner:s 3:parameters:{}s 4:reclaimPolicy:s* 5:mountOptions:[]s 6:allowVolumeExpansion:b* 7:volumeBindingMode:s* 8:allowedTopologies:[]v1.TopologySelectorTerm
StorageHealth 1:name:s 2:healthConditions:[]StorageHealthCondition
StorageHealthCondition 1:status:s 2:reason:s 3:message:s 4:accessMode:s* 5:volumeMode:s* 6:lastTransitionTime:t
TokenRequest 1:audience:s 2:expirationSeconds:l*
VolumeAttachment 1:metadata:meta.ObjectMeta 2:spec:VolumeAttachmentSpec 3:status:VolumeAttachmentStatus
VolumeAttachmentSource 1:persistentVolumeName:s* 2:inlineVolumeSpec:v1.PersistentVolumeSpec*
VolumeAttachmentSpec 1:attacher:s 2:source:VolumeAttachmentSource 3:nodeName:s
VolumeAttachmentStatus 1:attached:b 2:attachmentMetadata:{}s 3:attachError:VolumeError* 4:detachError:VolumeError*
VolumeAttributesClass 1:metadata:meta.ObjectMeta 2:driverName:s 3:parameters:{}s
VolumeError 1:time:t 2:message:s 3:errorCode:i*
VolumeNodeResources 1:count:i*
`,
  'storagemigration.k8s.io/v1': `
StorageVersionMigration 1:metadata:meta.ObjectMeta 2:spec:StorageVersionMigrationSpec 3:status:StorageVersionMigrationStatus
StorageVersionMigrationSpec 1:resource:meta.GroupResource
StorageVersionMigrationStatus 1:conditions:[]meta.Condition 2:resourceVersion:s
`,
  'storagemigration.k8s.io/v1beta1': `
StorageVersionMigration 1:metadata:meta.ObjectMeta 2:spec:StorageVersionMigrationSpec 3:status:StorageVersionMigrationStatus
StorageVersionMigrationSpec 1:resource:meta.GroupResource
StorageVersionMigrationStatus 1:conditions:[]meta.Condition 2:resourceVersion:s
`,
  v1: `
AWSElasticBlockStoreVolumeSource 1:volumeID:s 2:fsType:s 3:partition:i 4:readOnly:b
Affinity 1:nodeAffinity:NodeAffinity* 2:podAffinity:PodAffinity* 3:podAntiAffinity:PodAntiAffinity*
AppArmorProfile 1:type:s 2:localhostProfile:s*
AttachedVolume 1:name:s 2:devicePath:s
AzureDiskVolumeSource 1:diskName:s 2:diskURI:s 3:cachingMode:s* 4:fsType:s* 5:readOnly:b* 6:kind:s*
AzureFilePersistentVolumeSource 1:secretName:s 2:shareName:s 3:readOnly:b 4:secretNamespace:s*
AzureFileVolumeSource 1:secretName:s 2:shareName:s 3:readOnly:b
Binding 1:metadata:meta.ObjectMeta 2:target:ObjectReference
CSIPersistentVolumeSource 1:driver:s 2:volumeHandle:s 3:readOnly:b 4:fsType:s 5:volumeAttributes:{}s 6:controllerPublishSecretRef:SecretReference* 7:nodeStageSecretRef:SecretReference* 8:nodePublishSecretRef:SecretReference* 9:controllerExpandSecretRef:SecretReference* 10:nodeExpandSecretRef:SecretReference*
CSIVolumeSource 1:driver:s 2:readOnly:b* 3:fsType:s* 4:volumeAttributes:{}s 5:nodePublishSecretRef:LocalObjectReference*
Capabilities 1:add:[]s 2:drop:[]s
CephFSPersistentVolumeSource 1:monitors:[]s 2:path:s 3:user:s 4:secretFile:s 5:secretRef:SecretReference* 6:readOnly:b
CephFSVolumeSource 1:monitors:[]s 2:path:s 3:user:s 4:secretFile:s 5:secretRef:LocalObjectReference* 6:readOnly:b
CinderPersistentVolumeSource 1:volumeID:s 2:fsType:s 3:readOnly:b 4:secretRef:SecretReference*
CinderVolumeSource 1:volumeID:s 2:fsType:s 3:readOnly:b 4:secretRef:LocalObjectReference*
ClaimSource 1:resourceClaimName:s* 2:resourceClaimTemplateName:s*
ClientIPConfig 1:timeoutSeconds:i*
ClusterTrustBundleProjection 1:name:s* 2:signerName:s* 3:labelSelector:meta.LabelSelector* 5:optional:b* 4:path:s 6:user:l*
ComponentCondition 1:type:s 2:status:s 3:message:s 4:error:s
ComponentStatus 1:metadata:meta.ObjectMeta 2:conditions:[]ComponentCondition
ConfigMap 1:metadata:meta.ObjectMeta 4:immutable:b* 2:data:{}s 3:binaryData:{}x
ConfigMapEnvSource 1::LocalObjectReference 2:optional:b*
ConfigMapKeySelector 1::LocalObjectReference 2:key:s 3:optional:b*
ConfigMapNodeConfigSource 1:namespace:s 2:name:s 3:uid:s 4:resourceVersion:s 5:kubeletConfigKey:s
ConfigMapProjection 1::LocalObjectReference 2:items:[]KeyToPath 4:optional:b*
ConfigMapVolumeSource 1::LocalObjectReference 2:items:[]KeyToPath 3:defaultMode:i* 4:optional:b* 5:defaultUser:l*
Container 1:name:s 2:image:s 3:command:[]s 4:args:[]s 5:workingDir:s 6:ports:[]ContainerPort 19:envFrom:[]EnvFromSource 7:env:[]EnvVar 8:resources:ResourceRequirements 23:resizePolicy:[]ContainerResizePolicy 24:restartPolicy:s* 25:restartPolicyRules:[]ContainerRestartRule 9:volumeMounts:[]VolumeMount 21:volumeDevices:[]VolumeDevice 10:livenessProbe:Probe* 11:readinessProbe:Probe* 22:startupProbe:Probe* 12:lifecycle:Lifecycle* 13:terminationMessagePath:s 20:terminationMessagePolicy:s 14:imagePullPolicy:s 15:securityContext:SecurityContext* 16:stdin:b 17:stdinOnce:b 18:tty:b
ContainerExtendedResourceRequest 1:containerName:s 2:resourceName:s 3:requestName:s
ContainerImage 1:names:[]s 2:sizeBytes:l
ContainerPort 1:name:s 2:hostPort:i 3:containerPort:i 4:protocol:s 5:hostIP:s
ContainerResizePolicy 1:resourceName:s 2:restartPolicy:s
ContainerRestartRule 1:action:s 2:exitCodes:ContainerRestartRuleOnExitCodes*
ContainerRestartRuleOnExitCodes 1:operator:s 2:values:[]i
ContainerState 1:waiting:ContainerStateWaiting* 2:running:ContainerStateRunning* 3:terminated:ContainerStateTerminated*
ContainerStateRunning 1:startedAt:t
ContainerStateTerminated 1:exitCode:i 2:signal:i 3:reason:s 4:message:s 5:startedAt:t 6:finishedAt:t 7:containerID:s
ContainerStateWaiting 1:reason:s 2:message:s
ContainerStatus 1:name:s 2:state:ContainerState 3:lastState:ContainerState 4:ready:b 5:restartCount:i 6:image:s 7:imageID:s 8:containerID:s 9:started:b* 10:allocatedResources:{}q 11:resources:ResourceRequirements* 12:volumeMounts:[]VolumeMountStatus 13:user:ContainerUser* 14:allocatedResourcesStatus:[]ResourceStatus 15:stopSignal:s*
ContainerUser 1:linux:LinuxContainerUser*
DaemonEndpoint 1:Port:i
DownwardAPIProjection 1:items:[]DownwardAPIVolumeFile
DownwardAPIVolumeFile 1:path:s 2:fieldRef:ObjectFieldSelector* 3:resourceFieldRef:ResourceFieldSelector* 4:mode:i* 5:user:l*
DownwardAPIVolumeSource 1:items:[]DownwardAPIVolumeFile 2:defaultMode:i* 3:defaultUser:l*
EmptyDirVolumeSource 1:medium:s 2:sizeLimit:q* 3:mode:i*
EndpointAddress 1:ip:s 3:hostname:s 4:nodeName:s* 2:targetRef:ObjectReference*
EndpointPort 1:name:s 2:port:i 3:protocol:s 4:appProtocol:s*
EndpointSubset 1:addresses:[]EndpointAddress 2:notReadyAddresses:[]EndpointAddress 3:ports:[]EndpointPort
Endpoints 1:metadata:meta.ObjectMeta 2:subsets:[]EndpointSubset
EnvFromSource 1:prefix:s 2:configMapRef:ConfigMapEnvSource* 3:secretRef:SecretEnvSource*
EnvVar 1:name:s 2:value:s 3:valueFrom:EnvVarSource*
EnvVarSource 1:fieldRef:ObjectFieldSelector* 2:resourceFieldRef:ResourceFieldSelector* 3:configMapKeyRef:ConfigMapKeySelector* 4:secretKeyRef:SecretKeySelector* 5:fileKeyRef:FileKeySelector*
EphemeralContainer 1::EphemeralContainerCommon 2:targetContainerName:s
EphemeralContainerCommon 1:name:s 2:image:s 3:command:[]s 4:args:[]s 5:workingDir:s 6:ports:[]ContainerPort 19:envFrom:[]EnvFromSource 7:env:[]EnvVar 8:resources:ResourceRequirements 23:resizePolicy:[]ContainerResizePolicy 24:restartPolicy:s* 25:restartPolicyRules:[]ContainerRestartRule 9:volumeMounts:[]VolumeMount 21:volumeDevices:[]VolumeDevice 10:livenessProbe:Probe* 11:readinessProbe:Probe* 22:startupProbe:Probe* 12:lifecycle:Lifecycle* 13:terminationMessagePath:s 20:terminationMessagePolicy:s 14:imagePullPolicy:s 15:securityContext:SecurityContext* 16:stdin:b 17:stdinOnce:b 18:tty:b
EphemeralContainers 1:metadata:meta.ObjectMeta 2:ephemeralContainers:[]EphemeralContainer
EphemeralVolumeSource 1:volumeClaimTemplate:PersistentVolumeClaimTemplate* 2:readOnly:b
Event 1:metadata:meta.ObjectMeta 2:involvedObject:ObjectReference 3:reason:s 4:message:s 5:source:EventSource 6:firstTimestamp:t 7:lastTimestamp:t 8:count:i 9:type:s 10:eventTime:m 11:series:EventSeries* 12:action:s 13:related:ObjectReference* 14:reportingComponent:s 15:reportingInstance:s
EventSeries 1:count:i 2:lastObservedTime:m
EventSource 1:component:s 2:host:s
EvictionResponder 1:name:s 2:priority:i*
ExecAction 1:command:[]s
FCVolumeSource 1:targetWWNs:[]s 2:lun:i* 3:fsType:s 4:readOnly:b 5:wwids:[]s
FileKeySelector 1:volumeName:s 2:path:s 3:key:s 4:optional:b*
FlexPersistentVolumeSource 1:driver:s 2:fsType:s 3:secretRef:SecretReference* 4:readOnly:b 5:options:{}s
FlexVolumeSource 1:driver:s 2:fsType:s 3:secretRef:LocalObjectReference* 4:readOnly:b 5:options:{}s
FlockerVolumeSource 1:datasetName:s 2:datasetUUID:s
GCEPersistentDiskVolumeSource 1:pdName:s 2:fsType:s 3:partition:i 4:readOnly:b
GRPCAction 1:port:i 2:service:s* 3:mode:s*
GitRepoVolumeSource 1:repository:s 2:revision:s 3:directory:s
GlusterfsPersistentVolumeSource 1:endpoints:s 2:path:s 3:readOnly:b 4:endpointsNamespace:s*
GlusterfsVolumeSource 1:endpoints:s 2:path:s 3:readOnly:b
HTTPGetAction 1:path:s 2:port:o 3:host:s 4:scheme:s 5:httpHeaders:[]HTTPHeader 6:protocol:s*
HTTPHeader 1:name:s 2:value:s
HostAlias 1:ip:s 2:hostnames:[]s
HostIP 1:ip:s
HostPathVolumeSource 1:path:s 2:type:s*
ISCSIPersistentVolumeSource 1:targetPortal:s 2:iqn:s 3:lun:i 4:iscsiInterface:s 5:fsType:s 6:readOnly:b 7:portals:[]s 8:chapAuthDiscovery:b 11:chapAuthSession:b 10:secretRef:SecretReference* 12:initiatorName:s*
ISCSIVolumeSource 1:targetPortal:s 2:iqn:s 3:lun:i 4:iscsiInterface:s 5:fsType:s 6:readOnly:b 7:portals:[]s 8:chapAuthDiscovery:b 11:chapAuthSession:b 10:secretRef:LocalObjectReference* 12:initiatorName:s*
ImageVolumeSource 1:reference:s 2:pullPolicy:s
ImageVolumeStatus 1:imageRef:s
KeyToPath 1:key:s 2:path:s 3:mode:i* 4:user:l*
Lifecycle 1:postStart:LifecycleHandler* 2:preStop:LifecycleHandler* 3:stopSignal:s*
LifecycleHandler 1:exec:ExecAction* 2:httpGet:HTTPGetAction* 3:tcpSocket:TCPSocketAction* 4:sleep:SleepAction*
LimitRange 1:metadata:meta.ObjectMeta 2:spec:LimitRangeSpec
LimitRangeItem 1:type:s 2:max:{}q 3:min:{}q 4:default:{}q 5:defaultRequest:{}q 6:maxLimitRequestRatio:{}q
LimitRangeSpec 1:limits:[]LimitRangeItem
LinuxContainerUser 1:uid:l 2:gid:l 3:supplementalGroups:[]l
LoadBalancerIngress 1:ip:s 2:hostname:s 3:ipMode:s* 4:ports:[]PortStatus
LoadBalancerStatus 1:ingress:[]LoadBalancerIngress
LocalObjectReference 1:name:s
LocalVolumeSource 1:path:s 2:fsType:s*
ModifyVolumeStatus 1:targetVolumeAttributesClassName:s 2:status:s
NFSVolumeSource 1:server:s 2:path:s 3:readOnly:b
Namespace 1:metadata:meta.ObjectMeta 2:spec:NamespaceSpec 3:status:NamespaceStatus
NamespaceCondition 1:type:s 2:status:s 4:lastTransitionTime:t 5:reason:s 6:message:s
NamespaceSpec 1:finalizers:[]s
NamespaceStatus 1:phase:s 2:conditions:[]NamespaceCondition
Node 1:metadata:meta.ObjectMeta 2:spec:NodeSpec 3:status:NodeStatus
NodeAddress 1:type:s 2:address:s
NodeAffinity 1:requiredDuringSchedulingIgnoredDuringExecution:NodeSelector* 2:preferredDuringSchedulingIgnoredDuringExecution:[]PreferredSchedulingTerm
NodeAllocatableMappedResources 1:name:s 2:quantity:q*
NodeAllocatableOverheadResources 1:name:s 2:perPod:q* 3:perContainer:q*
NodeAllocatableResourceClaimStatus 1:resourceClaimName:s 2:containers:[]s 4:mapping:[]NodeAllocatableMappedResources 5:overhead:[]NodeAllocatableOverheadResources
NodeCondition 1:type:s 2:status:s 3:lastHeartbeatTime:t 4:lastTransitionTime:t 5:reason:s 6:message:s
NodeConfigSource 2:configMap:ConfigMapNodeConfigSource*
NodeConfigStatus 1:assigned:NodeConfigSource* 2:active:NodeConfigSource* 3:lastKnownGood:NodeConfigSource* 4:error:s
NodeDaemonEndpoints 1:kubeletEndpoint:DaemonEndpoint
NodeFeatures 1:supplementalGroupsPolicy:b*
NodePodPreemptionPolicy 1:disableResizePreemption:[]s
NodeProxyOptions 1:path:s
NodeRuntimeHandler 1:name:s 2:features:NodeRuntimeHandlerFeatures*
NodeRuntimeHandlerFeatures 1:recursiveReadOnlyMounts:b* 2:userNamespaces:b*
NodeSelector 1:nodeSelectorTerms:[]NodeSelectorTerm
NodeSelectorRequirement 1:key:s 2:operator:s 3:values:[]s
NodeSelectorTerm 1:matchExpressions:[]NodeSelectorRequirement 2:matchFields:[]NodeSelectorRequirement
NodeSpec 1:podCIDR:s 7:podCIDRs:[]s 3:providerID:s 4:unschedulable:b 5:taints:[]Taint 6:configSource:NodeConfigSource* 2:externalID:s 8:podPreemptionPolicy:NodePodPreemptionPolicy*
NodeStatus 1:capacity:{}q 2:allocatable:{}q 3:phase:s 4:conditions:[]NodeCondition 5:addresses:[]NodeAddress 6:daemonEndpoints:NodeDaemonEndpoints 7:nodeInfo:NodeSystemInfo 8:images:[]ContainerImage 9:volumesInUse:[]s 10:volumesAttached:[]AttachedVolume 11:config:NodeConfigStatus* 12:runtimeHandlers:[]NodeRuntimeHandler 13:features:NodeFeatures* 14:declaredFeatures:[]s
NodeSwapStatus 1:capacity:l*
NodeSystemInfo 1:machineID:s 2:systemUUID:s 3:bootID:s 4:kernelVersion:s 5:osImage:s 6:containerRuntimeVersion:s 7:kubeletVersion:s 8:kubeProxyVersion:s 9:operatingSystem:s 10:architecture:s 11:swap:NodeSwapStatus*
ObjectFieldSelector 1:apiVersion:s 2:fieldPath:s
ObjectReference 1:kind:s 2:namespace:s 3:name:s 4:uid:s 5:apiVersion:s 6:resourceVersion:s 7:fieldPath:s
PersistentVolume 1:metadata:meta.ObjectMeta 2:spec:PersistentVolumeSpec 3:status:PersistentVolumeStatus
PersistentVolumeClaim 1:metadata:meta.ObjectMeta 2:spec:PersistentVolumeClaimSpec 3:status:PersistentVolumeClaimStatus
PersistentVolumeClaimCondition 1:type:s 2:status:s 3:lastProbeTime:t 4:lastTransitionTime:t 5:reason:s 6:message:s
PersistentVolumeClaimSpec 1:accessModes:[]s 4:selector:meta.LabelSelector* 2:resources:VolumeResourceRequirements 3:volumeName:s 5:storageClassName:s* 6:volumeMode:s* 7:dataSource:TypedLocalObjectReference* 8:dataSourceRef:TypedObjectReference* 9:volumeAttributesClassName:s*
PersistentVolumeClaimStatus 1:phase:s 2:accessModes:[]s 3:capacity:{}q 4:conditions:[]PersistentVolumeClaimCondition 5:allocatedResources:{}q 7:allocatedResourceStatuses:{}s 8:currentVolumeAttributesClassName:s* 9:modifyVolumeStatus:ModifyVolumeStatus* 10:healthStatus:VolumeHealthStatus* 6:resizeStatus:s*
PersistentVolumeClaimTemplate 1:metadata:meta.ObjectMeta 2:spec:PersistentVolumeClaimSpec
PersistentVolumeClaimVolumeSource 1:claimName:s 2:readOnly:b
PersistentVolumeSource 1:gcePersistentDisk:GCEPersistentDiskVolumeSource* 2:awsElasticBlockStore:AWSElasticBlockStoreVolumeSource* 3:hostPath:HostPathVolumeSource* 4:glusterfs:GlusterfsPersistentVolumeSource* 5:nfs:NFSVolumeSource* 6:rbd:RBDPersistentVolumeSource* 7:iscsi:ISCSIPersistentVolumeSource* 8:cinder:CinderPersistentVolumeSource* 9:cephfs:CephFSPersistentVolumeSource* 10:fc:FCVolumeSource* 11:flocker:FlockerVolumeSource* 12:flexVolume:FlexPersistentVolumeSource* 13:azureFile:AzureFilePersistentVolumeSource* 14:vsphereVolume:VsphereVirtualDiskVolumeSource* 15:quobyte:QuobyteVolumeSource* 16:azureDisk:AzureDiskVolumeSource* 17:photonPersistentDisk:PhotonPersistentDiskVolumeSource* 18:portworxVolume:PortworxVolumeSource* 19:scaleIO:ScaleIOPersistentVolumeSource* 20:local:LocalVolumeSource* 21:storageos:StorageOSPersistentVolumeSource* 22:csi:CSIPersistentVolumeSource*
PersistentVolumeSpec 1:capacity:{}q 2::PersistentVolumeSource 3:accessModes:[]s 4:claimRef:ObjectReference* 5:persistentVolumeReclaimPolicy:s 6:storageClassName:s 7:mountOptions:[]s 8:volumeMode:s* 9:nodeAffinity:VolumeNodeAffinity* 10:volumeAttributesClassName:s*
PersistentVolumeStatus 1:phase:s 2:message:s 3:reason:s 4:lastPhaseTransitionTime:t*
PhotonPersistentDiskVolumeSource 1:pdID:s 2:fsType:s
Pod 1:metadata:meta.ObjectMeta 2:spec:PodSpec 3:status:PodStatus
PodAffinity 1:requiredDuringSchedulingIgnoredDuringExecution:[]PodAffinityTerm 2:preferredDuringSchedulingIgnoredDuringExecution:[]WeightedPodAffinityTerm
PodAffinityTerm 1:labelSelector:meta.LabelSelector* 2:namespaces:[]s 3:topologyKey:s 4:namespaceSelector:meta.LabelSelector* 5:matchLabelKeys:[]s 6:mismatchLabelKeys:[]s
PodAntiAffinity 1:requiredDuringSchedulingIgnoredDuringExecution:[]PodAffinityTerm 2:preferredDuringSchedulingIgnoredDuringExecution:[]WeightedPodAffinityTerm
PodAttachOptions 1:stdin:b 2:stdout:b 3:stderr:b 4:tty:b 5:container:s
PodCertificateProjection 1:signerName:s 2:keyType:s 3:maxExpirationSeconds:i* 4:credentialBundlePath:s 5:keyPath:s 6:certificateChainPath:s 7:userAnnotations:{}s 8:user:l*
PodCondition 1:type:s 7:observedGeneration:l 2:status:s 3:lastProbeTime:t 4:lastTransitionTime:t 5:reason:s 6:message:s
PodDNSConfig 1:nameservers:[]s 2:searches:[]s 3:options:[]PodDNSConfigOption
PodDNSConfigOption 1:name:s 2:value:s*
PodExecOptions 1:stdin:b 2:stdout:b 3:stderr:b 4:tty:b 5:container:s 6:command:[]s
PodExtendedResourceClaimStatus 1:requestMappings:[]ContainerExtendedResourceRequest 2:resourceClaimName:s
PodIP 1:ip:s
PodLogOptions 1:container:s 2:follow:b 3:previous:b 4:sinceSeconds:l* 5:sinceTime:t* 6:timestamps:b 7:tailLines:l* 8:limitBytes:l* 9:insecureSkipTLSVerifyBackend:b 10:stream:s*
PodOS 1:name:s
PodPortForwardOptions 1:ports:[]i
PodProxyOptions 1:path:s
PodReadinessGate 1:conditionType:s
PodResourceClaim 1:name:s 3:resourceClaimName:s* 4:resourceClaimTemplateName:s* 2:source:ClaimSource
PodResourceClaimStatus 1:name:s 2:resourceClaimName:s*
PodSchedulingGate 1:name:s
PodSchedulingGroup 1:podGroupName:s*
PodSecurityContext 1:seLinuxOptions:SELinuxOptions* 8:windowsOptions:WindowsSecurityContextOptions* 2:runAsUser:l* 6:runAsGroup:l* 3:runAsNonRoot:b* 4:supplementalGroups:[]l 12:supplementalGroupsPolicy:s* 5:fsGroup:l* 7:sysctls:[]Sysctl 9:fsGroupChangePolicy:s* 10:seccompProfile:SeccompProfile* 11:appArmorProfile:AppArmorProfile* 13:seLinuxChangePolicy:s*
PodSpec 1:volumes:[]Volume 20:initContainers:[]Container 2:containers:[]Container 34:ephemeralContainers:[]EphemeralContainer 3:restartPolicy:s 4:terminationGracePeriodSeconds:l* 5:activeDeadlineSeconds:l* 6:dnsPolicy:s 7:nodeSelector:{}s 8:serviceAccountName:s 9:serviceAccount:s 21:automountServiceAccountToken:b* 10:nodeName:s 11:hostNetwork:b 12:hostPID:b 13:hostIPC:b 27:shareProcessNamespace:b* 14:securityContext:PodSecurityContext* 15:imagePullSecrets:[]LocalObjectReference 16:hostname:s 17:subdomain:s 18:affinity:Affinity* 19:schedulerName:s 22:tolerations:[]Toleration 23:hostAliases:[]HostAlias 24:priorityClassName:s 25:priority:i* 26:dnsConfig:PodDNSConfig* 28:readinessGates:[]PodReadinessGate 29:runtimeClassName:s* 30:enableServiceLinks:b* 31:preemptionPolicy:s* 32:overhead:{}q 33:topologySpreadConstraints:[]TopologySpreadConstraint 35:setHostnameAsFQDN:b* 36:os:PodOS* 37:hostUsers:b* 38:schedulingGates:[]PodSchedulingGate 39:resourceClaims:[]PodResourceClaim 40:resources:ResourceRequirements* 41:hostnameOverride:s* 43:schedulingGroup:PodSchedulingGroup* 44:evictionResponders:[]EvictionResponder
PodStatus 17:observedGeneration:l 1:phase:s 2:conditions:[]PodCondition 3:message:s 4:reason:s 11:nominatedNodeName:s 5:hostIP:s 16:hostIPs:[]HostIP 6:podIP:s 12:podIPs:[]PodIP 7:startTime:t* 10:initContainerStatuses:[]ContainerStatus 8:containerStatuses:[]ContainerStatus 9:qosClass:s 13:ephemeralContainerStatuses:[]ContainerStatus 14:resize:s 15:resourceClaimStatuses:[]PodResourceClaimStatus 18:extendedResourceClaimStatus:PodExtendedResourceClaimStatus* 19:allocatedResources:{}q 20:resources:ResourceRequirements* 21:nodeAllocatableResourceClaimStatuses:[]NodeAllocatableResourceClaimStatus 22:volumeHealth:[]PodVolumeHealth
PodStatusResult 1:metadata:meta.ObjectMeta 2:status:PodStatus
PodTemplate 1:metadata:meta.ObjectMeta 2:template:PodTemplateSpec
PodTemplateSpec 1:metadata:meta.ObjectMeta 2:spec:PodSpec
PodVolumeHealth 1:name:s 2:healthConditions:[]VolumeHealthCondition 3:lastTransitionTime:t
PortStatus 1:port:i 2:protocol:s 3:error:s*
PortworxVolumeSource 1:volumeID:s 2:fsType:s 3:readOnly:b
PreferredSchedulingTerm 1:weight:i 2:preference:NodeSelectorTerm
Probe 1::ProbeHandler 2:initialDelaySeconds:i 3:timeoutSeconds:i 4:periodSeconds:i 5:successThreshold:i 6:failureThreshold:i 7:terminationGracePeriodSeconds:l*
ProbeHandler 1:exec:ExecAction* 2:httpGet:HTTPGetAction* 3:tcpSocket:TCPSocketAction* 4:grpc:GRPCAction*
ProjectedVolumeSource 1:sources:[]VolumeProjection 2:defaultMode:i* 3:defaultUser:l*
QuobyteVolumeSource 1:registry:s 2:volume:s 3:readOnly:b 4:user:s 5:group:s 6:tenant:s
RBDPersistentVolumeSource 1:monitors:[]s 2:image:s 3:fsType:s 4:pool:s 5:user:s 6:keyring:s 7:secretRef:SecretReference* 8:readOnly:b
RBDVolumeSource 1:monitors:[]s 2:image:s 3:fsType:s 4:pool:s 5:user:s 6:keyring:s 7:secretRef:LocalObjectReference* 8:readOnly:b
RangeAllocation 1:metadata:meta.ObjectMeta 2:range:s 3:data:x
ReplicationController 1:metadata:meta.ObjectMeta 2:spec:ReplicationControllerSpec 3:status:ReplicationControllerStatus
ReplicationControllerCondition 1:type:s 2:status:s 3:lastTransitionTime:t 4:reason:s 5:message:s
ReplicationControllerSpec 1:replicas:i* 4:minReadySeconds:i 2:selector:{}s 3:template:PodTemplateSpec*
ReplicationControllerStatus 1:replicas:i 2:fullyLabeledReplicas:i 4:readyReplicas:i 5:availableReplicas:i 3:observedGeneration:l 6:conditions:[]ReplicationControllerCondition
ResourceClaim 1:name:s 2:request:s
ResourceFieldSelector 1:containerName:s 2:resource:s 3:divisor:q
ResourceHealth 1:resourceID:s 2:health:s 6:message:s*
ResourceQuota 1:metadata:meta.ObjectMeta 2:spec:ResourceQuotaSpec 3:status:ResourceQuotaStatus
ResourceQuotaSpec 1:hard:{}q 2:scopes:[]s 3:scopeSelector:ScopeSelector*
ResourceQuotaStatus 1:hard:{}q 2:used:{}q
ResourceRequirements 1:limits:{}q 2:requests:{}q 3:claims:[]ResourceClaim
ResourceStatus 1:name:s 2:resources:[]ResourceHealth
SELinuxOptions 1:user:s 2:role:s 3:type:s 4:level:s
ScaleIOPersistentVolumeSource 1:gateway:s 2:system:s 3:secretRef:SecretReference* 4:sslEnabled:b 5:protectionDomain:s 6:storagePool:s 7:storageMode:s 8:volumeName:s 9:fsType:s 10:readOnly:b
ScaleIOVolumeSource 1:gateway:s 2:system:s 3:secretRef:LocalObjectReference* 4:sslEnabled:b 5:protectionDomain:s 6:storagePool:s 7:storageMode:s 8:volumeName:s 9:fsType:s 10:readOnly:b
ScopeSelector 1:matchExpressions:[]ScopedResourceSelectorRequirement
ScopedResourceSelectorRequirement 1:scopeName:s 2:operator:s 3:values:[]s
SeccompProfile 1:type:s 2:localhostProfile:s*
Secret 1:metadata:meta.ObjectMeta 5:immutable:b* 2:data:{}x 4:stringData:{}s 3:type:s
SecretEnvSource 1::LocalObjectReference 2:optional:b*
SecretKeySelector 1::LocalObjectReference 2:key:s 3:optional:b*
SecretProjection 1::LocalObjectReference 2:items:[]KeyToPath 4:optional:b*
SecretReference 1:name:s 2:namespace:s
SecretVolumeSource 1:secretName:s 2:items:[]KeyToPath 3:defaultMode:i* 4:optional:b* 5:defaultUser:l*
SecurityContext 1:capabilities:Capabilities* 2:privileged:b* 3:seLinuxOptions:SELinuxOptions* 10:windowsOptions:WindowsSecurityContextOptions* 4:runAsUser:l* 8:runAsGroup:l* 5:runAsNonRoot:b* 6:readOnlyRootFilesystem:b* 7:allowPrivilegeEscalation:b* 9:procMount:s* 11:seccompProfile:SeccompProfile* 12:appArmorProfile:AppArmorProfile*
SerializedReference 1:reference:ObjectReference
Service 1:metadata:meta.ObjectMeta 2:spec:ServiceSpec 3:status:ServiceStatus
ServiceAccount 1:metadata:meta.ObjectMeta 2:secrets:[]ObjectReference 3:imagePullSecrets:[]LocalObjectReference 4:automountServiceAccountToken:b*
ServiceAccountTokenProjection 1:audience:s 2:expirationSeconds:l* 3:path:s 4:user:l*
ServicePort 1:name:s 2:protocol:s 6:appProtocol:s* 3:port:i 4:targetPort:o 5:nodePort:i
ServiceProxyOptions 1:path:s
ServiceSpec 1:ports:[]ServicePort 2:selector:{}s 3:clusterIP:s 18:clusterIPs:[]s 4:type:s 5:externalIPs:[]s 7:sessionAffinity:s 8:loadBalancerIP:s 9:loadBalancerSourceRanges:[]s 10:externalName:s 11:externalTrafficPolicy:s 12:healthCheckNodePort:i 13:publishNotReadyAddresses:b 14:sessionAffinityConfig:SessionAffinityConfig* 19:ipFamilies:[]s 17:ipFamilyPolicy:s* 20:allocateLoadBalancerNodePorts:b* 21:loadBalancerClass:s* 22:internalTrafficPolicy:s* 23:trafficDistribution:s* 16:topologyKeys:[]s
ServiceStatus 1:loadBalancer:LoadBalancerStatus 2:conditions:[]meta.Condition
SessionAffinityConfig 1:clientIP:ClientIPConfig*
SleepAction 1:seconds:l
StorageOSPersistentVolumeSource 1:volumeName:s 2:volumeNamespace:s 3:fsType:s 4:readOnly:b 5:secretRef:ObjectReference*
StorageOSVolumeSource 1:volumeName:s 2:volumeNamespace:s 3:fsType:s 4:readOnly:b 5:secretRef:LocalObjectReference*
Sysctl 1:name:s 2:value:s
TCPSocketAction 1:port:o 2:host:s
Taint 1:key:s 2:value:s 3:effect:s 4:timeAdded:t*
Toleration 1:key:s 2:operator:s 3:value:s 4:effect:s 5:tolerationSeconds:l*
TopologySelectorLabelRequirement 1:key:s 2:values:[]s
TopologySelectorTerm 1:matchLabelExpressions:[]TopologySelectorLabelRequirement
TopologySpreadConstraint 1:maxSkew:i 2:topologyKey:s 3:whenUnsatisfiable:s 4:labelSelector:meta.LabelSelector* 5:minDomains:i* 6:nodeAffinityPolicy:s* 7:nodeTaintsPolicy:s* 8:matchLabelKeys:[]s
TypedLocalObjectReference 1:apiGroup:s* 2:kind:s 3:name:s
TypedObjectReference 1:apiGroup:s* 2:kind:s 3:name:s 4:namespace:s*
Volume 1:name:s 2::VolumeSource
VolumeDevice 1:name:s 2:devicePath:s
VolumeHealthCondition 1:status:s 2:reason:s 3:message:s
VolumeHealthStatus 1:healthConditions:[]VolumeHealthCondition 2:lastTransitionTime:t
VolumeMount 1:name:s 2:readOnly:b 7:recursiveReadOnly:s* 3:mountPath:s 4:subPath:s 5:mountPropagation:s* 6:subPathExpr:s 8:bindMountOptions:[]s
VolumeMountStatus 1:name:s 2:mountPath:s 3:readOnly:b 4:recursiveReadOnly:s* 5:volumeStatus:VolumeStatus*
VolumeNodeAffinity 1:required:NodeSelector*
VolumeProjection 1:secret:SecretProjection* 2:downwardAPI:DownwardAPIProjection* 3:configMap:ConfigMapProjection* 4:serviceAccountToken:ServiceAccountTokenProjection* 5:clusterTrustBundle:ClusterTrustBundleProjection* 6:podCertificate:PodCertificateProjection*
VolumeResourceRequirements 1:limits:{}q 2:requests:{}q
VolumeSource 1:hostPath:HostPathVolumeSource* 2:emptyDir:EmptyDirVolumeSource* 3:gcePersistentDisk:GCEPersistentDiskVolumeSource* 4:awsElasticBlockStore:AWSElasticBlockStoreVolumeSource* 5:gitRepo:GitRepoVolumeSource* 6:secret:SecretVolumeSource* 7:nfs:NFSVolumeSource* 8:iscsi:ISCSIVolumeSource* 9:glusterfs:GlusterfsVolumeSource* 10:persistentVolumeClaim:PersistentVolumeClaimVolumeSource* 11:rbd:RBDVolumeSource* 12:flexVolume:FlexVolumeSource* 13:cinder:CinderVolumeSource* 14:cephfs:CephFSVolumeSource* 15:flocker:FlockerVolumeSource* 16:downwardAPI:DownwardAPIVolumeSource* 17:fc:FCVolumeSource* 18:azureFile:AzureFileVolumeSource* 19:configMap:ConfigMapVolumeSource* 20:vsphereVolume:VsphereVirtualDiskVolumeSource* 21:quobyte:QuobyteVolumeSource* 22:azureDisk:AzureDiskVolumeSource* 23:photonPersistentDisk:PhotonPersistentDiskVolumeSource* 26:projected:ProjectedVolumeSource* 24:portworxVolume:PortworxVolumeSource* 25:scaleIO:ScaleIOVolumeSource* 27:storageos:StorageOSVolumeSource* 28:csi:CSIVolumeSource* 29:ephemeral:EphemeralVolumeSource* 30:image:ImageVolumeSource*
VolumeStatus 1:image:ImageVolumeStatus*
VsphereVirtualDiskVolumeSource 1:volumePath:s 2:fsType:s 3:storagePolicyName:s 4:storagePolicyID:s
WeightedPodAffinityTerm 1:weight:i 2:podAffinityTerm:PodAffinityTerm
WindowsSecurityContextOptions 1:gmsaCredentialSpecName:s* 2:gmsaCredentialSpec:s* 3:runAsUserName:s* 4:hostProcess:b*
`,
}
