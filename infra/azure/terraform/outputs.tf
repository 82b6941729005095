output "api_url" {
  description = "Base of the routes; callers need a function key."
  value       = "https://${azapi_resource.app["main"].output.properties.defaultHostName}"
}

output "function_apps" {
  description = "By app, what to publish the code to."
  value       = local.app_name
}

output "host_account" {
  description = "AzureWebJobsStorage__accountName for `flux` on your machine."
  value       = azurerm_storage_account.host["main"].name
}

output "queue" {
  description = "FLUX_QUEUE for `flux` on your machine."
  value       = local.queue
}

output "state_account" {
  description = "AZURE_STORAGE_ACCOUNT_NAME for `flux` on your machine."
  value       = azurerm_storage_account.state.name
}

output "storage" {
  description = "FLUX_STORAGE for `flux` on your machine."
  value       = "az://${local.container}/${local.instances}"
}

output "payloads" {
  description = "FLUX_PAYLOADS for `flux` on your machine."
  value       = "az://${local.container}/${local.payloads}"
}
