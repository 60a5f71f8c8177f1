"""What happens in a study, written into MLflow by one thread, through the store's absences."""
