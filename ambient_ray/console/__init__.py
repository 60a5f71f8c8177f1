"""What a person at the terminal meets: configuration, progress and the closing report."""
