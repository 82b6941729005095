output "api_url" {
  description = "Base of the routes; callers need a function key."
  value       = "https://${azapi_resource.app["main"].output.properties.defaultHostName}"
}

output "function_apps" {
  description = "By app, what to publish the code to."
  value       = local.app_name
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

output "settings" {
  description = "What the app is told, for `flux` on your machine: export $(terraform output -raw settings)."
  value = join(" ", [
    for name in ["AzureWebJobsStorage__accountName", "AZURE_STORAGE_ACCOUNT_NAME", "FLUX_STORAGE", "FLUX_PAYLOADS", "FLUX_QUEUE", "FLUX_BUDGET"] :
    "${name}=${local.settings_of["main"][name]}"
  ])
}
